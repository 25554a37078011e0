"""The loop: every request is answered exactly once, whoever fails or is killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from legos.errors import DataError
from process.genre import client as client_module
from process.genre.asking import exit_code
from process.genre.client import Client
from process.genre.endpoint import Endpoint
from process.genre.limits import Budget
from process.genre.run import INTERRUPTED, run
from process.genre.shown import facts, finished
from process.genre.store import Store
from process.genre.types import Answer, Request, Summary, Usage
from tests.process.genre.asking import MemoryStore, a_request, some_requests
from tests.process.genre.server import (
    COMPLETION_TOKENS,
    PROMPT_TOKENS,
    Asked,
    FaultyServer,
    Told,
    refusing,
)

ROOT = Path(__file__).resolve().parents[3]
BAD_TEXTS = {
    "no JSON": Told(text="I would rather not."),
    "cut JSON": Told(text='{"title": "A ti'),
    "wrong schema": Told(text='{"title": 5}'),
    "nothing": Told(text=""),
}


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(client_module, "_LONGEST_WAIT", 0.02)


def price(usage: Usage) -> float:
    """Whole numbers, so that sums are exact."""
    return usage.prompt_tokens + 3.0 * usage.completion_tokens


def run_with(
    tell: Callable[[Asked], Told],
    requests: list[Request],
    store: Any,
    *,
    budget: Budget | None = None,
    on_progress: Callable[[Summary], None] | None = None,
    **settings: Any,
) -> tuple[Summary, list[Asked]]:
    with FaultyServer(tell) as server:
        client = Client(Endpoint(server.base_url, **settings), budget, price)
        summary = run(requests, client, store, on_progress=on_progress)
    return summary, server.asked


@pytest.mark.slow
def test_every_request_is_answered_once_among_all_faults() -> None:
    choice = random.Random(3)
    faults = [
        Told(status=429, error="busy", headers={"Retry-After": "0.05"}),
        Told(status=500, error="oops"),
        Told(delay=3.0),
        Told(cut=True),
        Told(raw=b'{"choi'),
        *BAD_TEXTS.values(),
    ]
    good = Counter[str]()

    def tell(asked: Asked) -> Told:
        if choice.random() < 0.4 and len(asked.body["messages"]) == 2:
            return choice.choice(faults)
        good[asked.text] += 1
        return Told(text=f'{{"title": "{asked.text}"}}')

    store, requests, states = MemoryStore(), some_requests(60), list[Summary]()
    summary, _ = run_with(
        tell, [*requests, *requests], store, timeout=1.5, retries=20, on_progress=states.append
    )

    assert (summary.requests, summary.answered, summary.failed, summary.quarantined) == (
        60,
        60,
        0,
        0,
    )
    assert {a["answer"]["title"] for a in store.answers.values()} == {r.key for r in requests}
    assert set(good.values()) == {1}
    stored = sum(a["usage"]["prompt_tokens"] for a in store.answers.values())
    assert stored == summary.usage.prompt_tokens  # bad answers were paid for, too
    assert (
        summary.cost == price(summary.usage) > 60 * price(Usage(PROMPT_TOKENS, COMPLETION_TOKENS))
    )
    assert finished(states[-1]) == 60
    assert [finished(state) for state in states] == sorted(finished(state) for state in states)
    assert "0 failed" in facts(summary)


@pytest.mark.slow
@pytest.mark.parametrize("fault", BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_a_bad_answer_is_told_what_is_wrong_then_quarantined(fault: Told) -> None:
    store = MemoryStore()
    summary, asked = run_with(lambda _: fault, [a_request("item")], store)

    assert (summary.answered, summary.quarantined, summary.failed) == (0, 1, 0)
    assert len(asked) == 2
    roles = [message["role"] for message in asked[1].body["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    [rejected] = store.rejected
    first_reason = rejected["reason"].split("; then: ")[0]
    assert first_reason in asked[1].body["messages"][-1]["content"]
    assert rejected["usage"]["prompt_tokens"] == 2 * PROMPT_TOKENS
    assert summary.usage == Usage(2 * PROMPT_TOKENS, 2 * COMPLETION_TOKENS)


FINAL_TEXTS = {
    "reasoning used up": (Told(text="", finish="length"), "reasoning used up the limit of 30"),
    "cut": (Told(text='{"title": "A', finish="length"), "cut short: the answer used up the limit"),
    "whole, but at its limit": (Told(finish="MAX_TOKENS"), "cut short"),
    "filter": (Told(text="", finish="content_filter"), "refused (content_filter)"),
    "refusal": (Told(text=None, message={"refusal": "I cannot."}), "refused (stop): I cannot."),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "reason"), FINAL_TEXTS.values(), ids=FINAL_TEXTS)
def test_what_asking_again_cannot_change_is_paid_for_once(fault: Told, reason: str) -> None:
    store, requests = MemoryStore(), [a_request("item")]
    summary, asked = run_with(lambda _: fault, requests, store)

    assert (len(asked), summary.quarantined, exit_code(summary)) == (1, 1, 1)
    assert summary.first_reason.startswith(reason)
    assert store.rejected[0]["final"]

    summary, asked = run_with(lambda _: Told(), requests, store)  # a later run
    assert (len(asked), summary.refused, exit_code(summary)) == (0, 1, 1)


@pytest.mark.slow
def test_a_run_says_how_it_ended() -> None:
    def some_fail(asked: Asked) -> Told:
        return Told(status=413, error="no") if asked.text == "item 1" else Told()

    ends = {
        "everything": (lambda _: Told(), {}, 0),
        "a part": (some_fail, {}, 3),
        "a limit that was set": (lambda _: Told(), {"budget": Budget(requests=2)}, 0),
        "nothing": (lambda _: Told(text="no"), {}, 1),
        "a wrong key": (lambda _: Told(status=401, error="who?"), {}, 1),
        "no room in the budget": (lambda _: Told(), {"budget": Budget(tokens=1)}, 1),
    }
    for what, (tell, settings, code) in ends.items():
        summary, _ = run_with(tell, some_requests(3), MemoryStore(), concurrency=1, **settings)
        assert exit_code(summary) == code, what
        assert bool(summary.first_reason) == (what != "everything"), what


def test_parameters_that_the_server_refused_are_not_stored() -> None:
    store = MemoryStore()
    run_with(refusing("temperature"), [a_request("item")], store)

    [answer] = store.answers.values()
    assert "temperature" not in answer["parameters"]
    assert answer["parameters"]["top_p"] == 0.9


def test_a_repaired_answer_says_so() -> None:
    store = MemoryStore()
    run_with(
        lambda asked: Told() if asked.number else BAD_TEXTS["no JSON"], [a_request("item")], store
    )

    [answer] = store.answers.values()
    assert answer["usage"]["prompt_tokens"] == 2 * PROMPT_TOKENS
    assert "asked again: no JSON" in answer["notes"][-1]


def test_failed_requests_do_not_end_the_others_and_are_asked_by_the_next_run() -> None:
    def tell(asked: Asked) -> Told:
        return Told(status=413, error="too long") if asked.text == "item 1" else Told()

    store, requests = MemoryStore(), some_requests(5)
    summary, _ = run_with(tell, requests, store)
    assert (summary.answered, summary.failed, summary.stopped) == (4, 1, "")
    assert store.rejected[0]["reason"] == "failed: HTTP 413: too long"

    summary, asked = run_with(lambda _: Told(), requests, store)
    assert (summary.already, summary.answered) == (4, 1)
    assert [one.text for one in asked] == ["item 1"]


def test_a_server_that_is_down_is_not_asked_for_everything() -> None:
    summary, asked = run_with(
        lambda _: Told(status=500, error="oops"),
        some_requests(500),
        MemoryStore(),
        retries=0,
        concurrency=4,
    )

    assert "20 requests in a row failed; last: HTTP 500: oops" in summary.stopped
    assert 20 <= len(asked) <= 24


def test_a_key_that_is_refused_in_the_middle_keeps_what_was_answered() -> None:
    def tell(asked: Asked) -> Told:
        return Told(status=401, error="revoked") if asked.number >= 10 else Told(delay=0.02)

    store = MemoryStore()
    summary, _ = run_with(tell, some_requests(50), store, concurrency=4)
    assert summary.gave_up
    assert "revoked" in summary.stopped
    assert len(store.answers) == summary.answered == 10


def test_a_budget_ends_a_run_and_the_next_one_goes_on() -> None:
    store, requests = MemoryStore(), some_requests(20)
    summary, _ = run_with(lambda _: Told(), requests, store, budget=Budget(requests=8))
    assert (summary.answered, summary.failed) == (8, 0)
    assert summary.stopped == "the budget of requests (8) is spent: 8 used"

    summary, asked = run_with(lambda _: Told(), requests, store)
    assert (summary.already, summary.answered, summary.stopped) == (8, 12, "")
    assert len(asked) == 12


@pytest.mark.slow
def test_the_total_time_ends_a_run() -> None:
    begin = time.monotonic()
    summary, _ = run_with(
        lambda asked: Told(delay=0.0 if asked.number < 5 else 30.0),
        some_requests(20),
        MemoryStore(),
        total_timeout=1.5,
        concurrency=4,
    )

    assert summary.answered == 5
    assert "total time limit (1.5 s)" in summary.stopped
    assert time.monotonic() - begin < 25  # an answer takes 30


def test_a_store_that_cannot_write_ends_the_run() -> None:
    class FullStore(MemoryStore):
        def add(self, answers: Iterable[Answer]) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        run_with(lambda _: Told(delay=0.05), some_requests(200), FullStore(), concurrency=2)


def start_child(server: FaultyServer, folder: Path, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.process.genre.child"]
    arguments = [server.base_url, str(folder), str(count)]
    return subprocess.Popen(
        [*command, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "nothing happened for a minute"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.multiprocess
def test_kill_9_twice_then_everything_is_answered_exactly_once(tmp_path: Path) -> None:
    count, answered = 80, Counter[str]()

    def tell(asked: Asked) -> Told:
        if asked.number % 7 == 3:
            return Told(status=503, error="busy")
        answered[asked.text] += 1
        return Told(text=f'{{"title": "{asked.text}"}}', delay=0.05)

    with FaultyServer(tell) as server:
        for kill_at in (15, 45):
            child = start_child(server, tmp_path, count)
            wait_for(lambda least=kill_at: sum(answered.values()) >= least)
            os.kill(child.pid, signal.SIGKILL)
            child.communicate(timeout=30)
            assert child.returncode == -signal.SIGKILL
        stored_before = len(Store.read(tmp_path, "test"))
        child = start_child(server, tmp_path, count)
        _, errors = child.communicate(timeout=120)
    assert child.returncode == 0, errors

    store = Store.read(tmp_path, "test")
    titles = [answer["answer"]["title"] for answer in store.answers()]
    assert 0 < stored_before < count
    assert sorted(titles) == sorted(request.key for request in some_requests(count))
    lines = (tmp_path / "test.jsonl").read_text().splitlines()
    assert len(lines) == count
    counts = store.counts()
    assert counts.usage == Usage(count * PROMPT_TOKENS, count * COMPLETION_TOKENS)
    paid_twice = sum(answered.values()) - count
    assert 0 <= paid_twice <= 2 * 4 * 2  # at most what was in flight or on its way to the disk
    assert counts.quarantined == 0


@pytest.mark.multiprocess
def test_ctrl_c_stores_what_is_in_flight(tmp_path: Path) -> None:
    with FaultyServer(lambda _: Told(delay=0.3)) as server:
        child = start_child(server, tmp_path, 400)
        wait_for(lambda: len(server.asked) >= 6)
        os.kill(child.pid, signal.SIGINT)
        out, errors = child.communicate(timeout=60)
        asked = len(server.asked)

    assert child.returncode == 0, errors
    assert out.strip() == INTERRUPTED
    assert "(Ctrl-C again: none). Rerun the same command" in errors
    assert 6 <= asked < 40
    assert len(Store.read(tmp_path, "test")) == asked


@pytest.mark.multiprocess
def test_a_second_run_on_the_same_store_is_refused(tmp_path: Path) -> None:
    with FaultyServer(lambda _: Told(delay=0.3)) as server:
        child = start_child(server, tmp_path, 400)
        try:
            wait_for(lambda: len(server.asked) >= 1)
            with pytest.raises(DataError, match="another process"), Store.open(tmp_path, "test"):
                pass
        finally:
            child.kill()
            child.communicate(timeout=30)
