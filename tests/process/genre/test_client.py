"""The client against a server that fails: what is repeated, what is not, what is never shown."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest

from legos.errors import ConfigError
from process.genre import client as client_module
from process.genre.client import Client, EndpointError, RequestFailed
from process.genre.endpoint import Endpoint
from process.genre.limits import Budget, Pace, Stopped
from process.genre.types import Reply, Request, Usage
from tests.process.genre.asking import a_request, some_requests
from tests.process.genre.server import COMPLETION_TOKENS, PROMPT_TOKENS, Asked, FaultyServer, Told

KEY = "sk-test-0123456789abcdef"


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(client_module, "_LONGEST_WAIT", 0.02)


def ask(client: Client, requests: list[Request]) -> list[Reply | BaseException]:
    async def all_of_them() -> list[Reply | BaseException]:
        async with client:
            asked = (client.ask(request) for request in requests)
            return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(all_of_them())


def ask_one(tell: Callable[[Asked], Told], **settings: Any) -> tuple[Any, FaultyServer, Client]:
    with FaultyServer(tell) as server:
        client = Client(Endpoint(server.base_url, **settings))
        [result] = ask(client, [a_request("item")])
    return result, server, client


def first(*told: Told) -> Callable[[Asked], Told]:
    """These for the first requests, then good ones."""
    return lambda asked: told[asked.number] if asked.number < len(told) else Told()


PASSING = {
    "HTTP 408": Told(status=408, error="slow"),
    "HTTP 409": Told(status=409, error="conflict"),
    "HTTP 500": Told(status=500, error="oops"),
    "HTTP 503": Told(status=503, raw=b"<html>not JSON</html>"),
    "cut in the body": Told(cut=True),
    "body no JSON": Told(raw=b'{"choices": [{"mess'),
    "slow": Told(delay=2.0),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_faults_that_pass_are_repeated(fault: Told) -> None:
    reply, server, client = ask_one(first(fault, fault), timeout=0.8)

    assert isinstance(reply, Reply)
    assert len(server.asked) == client.attempts == 3
    assert client.usage == Usage(PROMPT_TOKENS, COMPLETION_TOKENS)


@pytest.mark.parametrize("status", [400, 405, 413, 422])
def test_other_client_errors_are_never_repeated(status: int) -> None:
    result, server, _ = ask_one(first(Told(status=status, error="the prompt is too long")))

    assert isinstance(result, RequestFailed)
    assert str(result) == f"HTTP {status}: the prompt is too long"
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [301, 401, 402, 403, 404])
def test_what_no_request_can_survive_ends_the_run(status: int) -> None:
    result, server, _ = ask_one(lambda asked: Told(status=status, error="no"))

    assert isinstance(result, EndpointError)
    assert len(server.asked) == 1


def test_an_empty_account_is_not_taken_for_too_many_requests() -> None:
    body = b'{"error": {"message": "no money", "code": "insufficient_quota"}}'
    result, server, _ = ask_one(lambda asked: Told(status=429, raw=body))

    assert isinstance(result, EndpointError)
    assert len(server.asked) == 1


def test_retries_end() -> None:
    result, server, _ = ask_one(lambda asked: Told(status=500, error="oops"), retries=2)

    assert isinstance(result, RequestFailed)
    assert str(result) == "HTTP 500: oops (after 3 attempts)"
    assert len(server.asked) == 3


@pytest.mark.slow
def test_retry_after_holds_for_every_request() -> None:
    """The second request is on its way when the first is told to wait; a third starts after."""
    busy = Told(status=429, error="busy", headers={"Retry-After": "1"})
    with FaultyServer(first(busy)) as server:
        client = Client(Endpoint(server.base_url, concurrency=1))
        replies = ask(client, some_requests(3))
    times = [asked.time for asked in server.asked]

    assert all(isinstance(reply, Reply) for reply in replies)
    assert times[1] - times[0] >= 1.0
    assert len(times) == 4

    with FaultyServer(first(busy)) as server:
        ask(Client(Endpoint(server.base_url, requests_per_minute=150)), some_requests(3))
    times = [asked.time for asked in server.asked]
    assert times[1] - times[0] >= 1.0  # 0.4 s by its pace alone


def test_retry_after_may_be_a_date_or_nonsense() -> None:
    date = formatdate(time.time() + 60, usegmt=True)

    def wait(value: str) -> float:
        return client_module._retry_after({"retry-after": value})

    assert 57 < wait(date) <= 60
    assert [wait(text) for text in ("soon", "nan", "inf", "-3", "")] == [0] * 5
    assert client_module._retry_after({}) == 0
    assert client_module._retry_after({"retry-after-ms": "250", "retry-after": "1"}) == 0.25


def test_sampling_and_schema_are_sent() -> None:
    _, server, _ = ask_one(first())
    body = server.asked[0].body

    assert (body["model"], body["temperature"], body["top_p"], body["seed"]) == (
        "fake",
        0.3,
        0.9,
        7,
    )
    assert body["max_tokens"] == 30
    assert body["response_format"]["json_schema"]["schema"] == a_request("item").schema


def test_refused_structured_output_is_weakened_once_and_remembered() -> None:
    def tell(asked: Asked) -> Told:
        kind = asked.body.get("response_format", {}).get("type", "text")
        if kind != "text":
            return Told(status=400, error=f"response_format {kind} is unknown")
        return Told()

    with FaultyServer(tell) as server:
        client = Client(Endpoint(server.base_url, concurrency=1))
        replies = ask(client, some_requests(3))
    kinds = [asked.body.get("response_format", {}).get("type", "text") for asked in server.asked]

    assert all(isinstance(reply, Reply) for reply in replies)
    assert kinds == ["json_schema", "json_object", "text", "text", "text"]
    assert client.notes == ["the endpoint refuses json_object; text now"]


def test_a_request_that_is_bad_in_itself_weakens_nothing() -> None:
    def tell(asked: Asked) -> Told:
        if asked.text == "item 0":
            return Told(status=400, error="this schema is wrong, and so is the rest")
        return Told()

    with FaultyServer(tell) as server:
        results = ask(Client(Endpoint(server.base_url, concurrency=1)), some_requests(2))

    assert isinstance(results[0], RequestFailed)
    assert server.asked[-1].body["response_format"]["type"] == "json_schema"


def test_max_completion_tokens_where_max_tokens_is_refused() -> None:
    def tell(asked: Asked) -> Told:
        if "max_tokens" in asked.body:
            return Told(status=400, error="use 'max_completion_tokens' instead of 'max_tokens'")
        return Told()

    reply, server, _ = ask_one(tell)

    assert isinstance(reply, Reply)
    assert server.asked[1].body["max_completion_tokens"] == 30


@pytest.mark.parametrize("status", [400, 401, 500])
def test_the_key_is_nowhere(
    status: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    padding = "x" * (client_module._SHOWN - 10)  # a cut through the key must not leave its half
    echo = f"{padding} Bearer {KEY} is wrong"
    result, server, client = ask_one(
        lambda asked: Told(status=status, error=echo), key_variable="MY_KEY", retries=1
    )

    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert isinstance(result, EndpointError | RequestFailed)
    shown = [repr(result), repr(result.__cause__), *client.notes, caplog.text, repr(client)]
    assert not any(KEY[:12] in text for text in shown)
    assert result.__suppress_context__


def test_an_answer_does_not_hold_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    reply, _, _ = ask_one(first(Told(text=f"your key: {KEY}")), key_variable="MY_KEY")

    assert reply.text == "your key: [hidden]"


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    assert Endpoint("http://127.0.0.1:1/v1").key() is None
    with pytest.raises(ConfigError, match=r"OPENAI_API_KEY is not set"):
        Endpoint("https://api.example.org/v1").key()
    with pytest.raises(ConfigError, match="the environment only") as caught:
        Endpoint(f"https://user:{KEY}@api.example.org/v1")
    assert KEY not in str(caught.value)


def test_a_key_for_a_vendor_is_not_sent_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    _, server, _ = ask_one(first())

    assert KEY not in server.asked[0].headers["authorization"]


@pytest.mark.parametrize(
    ("budget", "asked"),  # the next one might take 53 tokens, 30 of them paid for
    [
        (Budget(requests=5), 5),
        (Budget(tokens=3 * (PROMPT_TOKENS + COMPLETION_TOKENS) + 52), 3),
        (Budget(cost=4.0 * COMPLETION_TOKENS + 29), 4),
    ],
    ids=["requests", "tokens", "cost"],
)
def test_budgets_are_not_overspent_by_requests_in_flight(budget: Budget, asked: int) -> None:
    with FaultyServer(lambda _: Told(delay=0.05)) as server:
        client = Client(
            Endpoint(server.base_url, concurrency=8),
            budget,
            price=lambda usage: float(usage.completion_tokens),
        )
        results = ask(client, some_requests(12))
    stops = [result for result in results if isinstance(result, Stopped)]

    assert len(server.asked) == client.attempts == asked
    assert len(stops) == 12 - asked
    assert "budget" in str(stops[0])


def test_repeated_requests_count_against_the_budget() -> None:
    with FaultyServer(lambda _: Told(status=500, error="oops")) as server:
        client = Client(Endpoint(server.base_url, retries=9), Budget(requests=4))
        [result] = ask(client, [a_request("item")])

    assert isinstance(result, Stopped)
    assert len(server.asked) == 4


def test_total_timeout_ends_even_waiting_for_a_retry() -> None:
    busy = Told(status=429, error="busy", headers={"Retry-After": "60"})
    begin = time.monotonic()
    result, _, _ = ask_one(first(busy), total_timeout=0.4)

    assert isinstance(result, Stopped)
    assert 0.35 < time.monotonic() - begin < 5


def test_concurrency_is_bounded_and_used() -> None:
    with FaultyServer(lambda _: Told(delay=0.1)) as server:
        replies = ask(Client(Endpoint(server.base_url, concurrency=6)), some_requests(18))

    assert all(isinstance(reply, Reply) for reply in replies)
    assert server.most_in_flight == 6


def test_the_pace_of_requests_is_kept() -> None:
    with FaultyServer() as server:
        endpoint = Endpoint(server.base_url, concurrency=16, requests_per_minute=1200)
        begin = time.monotonic()
        ask(Client(endpoint), some_requests(13))
    last = max(asked.time for asked in server.asked)

    assert last - begin >= 12 * 0.05 * 0.9  # the first may reach a busy server late


@pytest.mark.slow
def test_the_pace_of_tokens_is_that_which_the_server_counts() -> None:
    each = PROMPT_TOKENS + COMPLETION_TOKENS
    with FaultyServer() as server:
        endpoint = Endpoint(server.base_url, concurrency=1, tokens_per_minute=600 * each)
        ask(Client(endpoint), some_requests(13))
    times = [asked.time for asked in server.asked]

    assert 12 * 0.1 * 0.9 <= times[-1] - times[0] < 12 * 0.1 * 53 / each * 0.95


def test_what_was_underestimated_is_waited_for() -> None:
    async def second_after_correction() -> float:
        pace = Pace(60.0)
        await pace.take(0.01)
        pace.correct(0.2)
        begin = time.monotonic()
        await pace.take(0.01)
        return time.monotonic() - begin

    assert asyncio.run(second_after_correction()) >= 0.2


def test_a_server_that_does_not_count_tokens_is_estimated() -> None:
    raw = b'{"choices": [{"message": {"content": "{}"}}]}'
    reply, _, client = ask_one(first(Told(raw=raw)))

    assert reply.usage.prompt_tokens > 0
    assert client.notes == ["the endpoint does not count tokens; counts are estimated"]
