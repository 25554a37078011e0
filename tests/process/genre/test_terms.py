"""What a server refuses is left out, noted once and remembered; what is of one text is not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from process.genre import client as client_module
from process.genre.client import Client, EndpointError, RequestFailed
from process.genre.endpoint import Endpoint
from process.genre.types import Reply
from tests.process.genre.asking import a_request, some_requests
from tests.process.genre.server import Asked, FaultyServer, Told, refusing

GEMMA = "System role not supported"
REFUSALS = {
    "temperature": refusing(
        "temperature", "Unsupported value: 'temperature' does not support 0.3 with this model. "
        "Only the default (1) value is supported.", param="temperature"),
    "top_p in camel case": refusing("top_p", 'Invalid JSON payload. Unknown name "topP"'),
    "seed of pydantic": refusing("seed", "[{'type': 'extra_forbidden'}]", status=422,
                                 detail=[{"loc": ["body", "seed"], "msg": "Extra inputs"}]),
    "frequency_penalty": refusing("frequency_penalty"),
    "penalty, unquoted": refusing("frequency_penalty", "presence and frequency penalty: unknown"),
    "both limits": lambda asked: next(
        (Told(status=400, error=f"unknown field {name}") for name in
         ("max_tokens", "max_completion_tokens") if name in asked.body), Told()),
    "response_format": refusing("response_format"),
    "system": refusing("system", GEMMA),
    "system as 500": refusing("system", f"Jinja Exception: {GEMMA}", status=500),
    "system by its place": refusing("system", "Unsupported value", param="messages[0].role"),
    "roles must alternate": refusing(
        "system", "Conversation roles must alternate user/assistant/user/assistant/..."),
    "404 that names it": refusing("seed", "No endpoint supports 'seed'", status=404),
}  # fmt: skip


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_FIRST_WAIT", 0.001)
    monkeypatch.setattr(client_module, "_LONGEST_WAIT", 0.002)


def ask(
    tell: Callable[[Asked], Told], count: int = 2, **settings: Any
) -> tuple[list[Any], list[Asked], Client]:
    async def all_of_them(client: Client) -> list[Any]:
        async with client:
            return await asyncio.gather(
                *(client.ask(one) for one in some_requests(count)), return_exceptions=True
            )

    with FaultyServer(tell) as server:
        client = Client(Endpoint(server.base_url, **{"concurrency": 1, **settings}))
        return asyncio.run(all_of_them(client)), server.asked, client


@pytest.mark.parametrize("tell", REFUSALS.values(), ids=REFUSALS)
def test_what_is_refused_is_left_out_for_the_run_and_noted_once(
    tell: Callable[[Asked], Told],
) -> None:
    replies, asked, client = ask(tell, 3)

    assert all(isinstance(reply, Reply) for reply in replies), replies
    refused_first = len(asked) - 3
    assert 1 <= refused_first <= 2
    assert all(len(one.body) == len(asked[-1].body) for one in asked[refused_first:])
    assert len(client.notes) == len(set(client.notes)) >= 1


def test_two_refusals_are_both_remembered() -> None:
    seed, penalty = refusing("seed"), refusing("frequency_penalty")
    replies, asked, client = ask(lambda one: seed(one) if "seed" in one.body else penalty(one))

    assert [reply.without for reply in replies] == [("frequency_penalty", "seed")] * 2
    assert len(asked) == 4
    assert client.notes == [
        "the endpoint refuses frequency_penalty; asked without it",
        "the endpoint refuses seed; asked without it",
    ]


def test_the_quoted_parameter_counts_not_the_one_that_is_recommended() -> None:
    told = "Supported: temperature, top_p, max_tokens. 'seed' is not one of them."
    replies, _, _ = ask(refusing("seed", told))
    assert [reply.without for reply in replies] == [("seed",)] * 2


def test_the_system_text_precedes_the_first_question() -> None:
    _, asked, client = ask(refusing("system", GEMMA), 1)
    assert asked[-1].body["messages"] == [{"role": "user", "content": "Answer.\n\nitem 0"}]
    assert client.notes == ["the endpoint refuses the system role; its text precedes the question"]


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
        "'max_tokens' is too large: 30. The context length is 4096, your request has 4090",
        "the prompt is too long",
    ],
)
def test_a_text_that_is_too_long_changes_nothing_for_the_others(message: str) -> None:
    def tell(asked: Asked) -> Told:
        return Told(status=400, error=message) if asked.text == "item 0" else Told()

    [first, second], asked, client = ask(tell)
    assert isinstance(first, RequestFailed)
    assert isinstance(second, Reply)
    assert len(asked) == 2
    assert asked[0].body.keys() == asked[1].body.keys()
    assert client.notes == []


def error200(code: Any, message: str = "Provider returned error", **further: Any) -> Told:
    return Told(raw=json.dumps({"error": {"message": message, "code": code}, **further}).encode())


@pytest.mark.parametrize(
    "told",
    [
        *(error200(code) for code in (429, "429", 503, "rate_limit_exceeded", "server_error",
                                      "overloaded_error", "RESOURCE_EXHAUSTED")),
        Told(raw=b'{"object": "error", "message": "busy", "code": 503}'),
        Told(raw=b'{"choices": [{"error": {"code": 502}, "finish_reason": "error"}]}'),
        Told(finish="error", text=""),
        Told(status=529, raw=b'{"type": "error", "error": {"type": "overloaded_error"}}'),
        Told(status=429, error="busy", headers={"retry-after-ms": "5"}),
    ],
    ids=str,
)  # fmt: skip
def test_an_error_that_passes_is_repeated_whatever_its_status(told: Told) -> None:
    replies, asked, _ = ask(lambda one: told if one.number < 2 else Told(), 1)
    assert isinstance(replies[0], Reply), replies
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("told", "kind", "message"),
    [
        (error200(400, "bad text"), RequestFailed, "HTTP 400: bad text"),
        (error200("strange", "no idea"), RequestFailed, "no idea"),
        (error200(401, "who?"), EndpointError, "HTTP 401: who?"),
        (error200("insufficient_quota", "no money"), EndpointError, "no quota left"),
        (error200("model_not_found", "no m"), EndpointError, "HTTP 404: no m"),
        (Told(raw=b'{"error": "plain text"}'), RequestFailed, "plain text"),
        (Told(raw=b'{"detail": "Not here"}'), RequestFailed, "Not here"),
        (Told(raw=b'{"choices": []}'), RequestFailed, "not a chat completion"),
        (Told(raw=b"[1, 2]"), RequestFailed, "not a chat completion"),
    ],
)
def test_an_error_inside_a_200_is_what_it_says(told: Told, kind: type, message: str) -> None:
    [result], asked, _ = ask(lambda _: told, 1)
    assert type(result) is kind
    assert message in str(result)
    assert len(asked) == 1


def test_a_refused_parameter_inside_a_200_is_left_out_too() -> None:
    told = error200(400, "Unsupported parameter: 'seed'")
    replies, _, _ = ask(lambda one: told if "seed" in one.body else Told())
    assert [reply.without for reply in replies] == [("seed",)] * 2


def test_where_nobody_listens_a_few_tries_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyServer() as server:
        url = server.base_url
    client = Client(Endpoint(url, retries=50))

    async def one() -> Reply:
        async with client:
            return await client.ask(a_request("item"))

    with pytest.raises(EndpointError, match=r"connection failed.*is the server running"):
        asyncio.run(one())
    assert client.attempts == 3


@pytest.mark.parametrize(
    ("told", "text", "reasoned"),
    [
        (Told([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "ab", False),
        (Told([{"type": "thinking", "thinking": "{}"}, {"type": "text", "text": "b"}]), "b", True),
        (Told(None, message={"reasoning_content": '{"title": "draft"}'}), "", True),
        (Told("half \ud83d of it"), "half \ufffd of it", False),
    ],
)
def test_contents_are_read_in_every_form(told: Told, text: str, reasoned: bool) -> None:
    [reply], _, _ = ask(lambda _: told, 1)
    assert (reply.text, reply.reasoned) == (text, reasoned)
