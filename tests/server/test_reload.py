"""A newer run takes the place of the old one between two batches; one that fails does not."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

from legos.errors import CheckpointError
from tests.server.fake import FakeRun
from tests.server.serving import make_server, serving


def newer() -> FakeRun:
    return FakeRun(60, name="two", seed=1)


def broken() -> FakeRun:
    raise CheckpointError("runs/shop: damaged")


def test_a_newer_run_answers_after_a_reload() -> None:
    with serving(make_server(FakeRun(), newer)) as client:
        status, told = client.post("/reload", {})
        assert (status, told["run"], told["error"]) == (200, "fake/two", None)
        assert client.post("/recommend", {"user": "u1"})[1]["run"] == "fake/two"
        _, health = client.get("/health")
        assert (health["items"], health["reload"]["run"]) == (60, "fake/two")


def test_a_run_that_cannot_be_opened_leaves_the_old_one_and_says_so() -> None:
    with serving(make_server(FakeRun(), broken)) as client:
        status, told = client.post("/reload", {})
        assert (status, told["error"]) == (409, "runs/shop: damaged; still serving fake/one")
        assert client.post("/recommend", {"user": "u1"})[1]["run"] == "fake/one"
        assert client.get("/health")[1]["reload"]["error"] == "runs/shop: damaged"
        assert (
            'legos_reloads_total{result="failed"} 1.0' in client.send("GET", "/metrics")[2].decode()
        )


def test_added_items_are_kept_but_for_those_that_the_newer_run_has() -> None:
    def with_item() -> FakeRun:
        run = newer()
        run.items.loc[59, "item_id"] = "known"
        return run

    with serving(make_server(FakeRun(), with_item)) as client:
        items = [{"item_id": name, "title": "walnut bench"} for name in ("known", "kept")]
        assert client.post("/items", {"items": items})[0] == 201
        assert client.post("/reload", {})[1]["lost_items"] == []
        _, health = client.get("/health")
        assert (health["items"], health["new_items"]) == (61, 1)
        assert client.post("/similar", {"item": "kept"})[0] == 200


def test_no_request_fails_while_runs_change() -> None:
    names, done = iter(["two", "three", "four"]), Event()

    def ask(client: Any) -> list[tuple[int, str]]:
        answers = []
        while not done.is_set():
            status, told = client.post("/recommend", {"user": "u1"})
            answers.append((status, told.get("run", told.get("error"))))
        return answers

    with (
        serving(make_server(FakeRun(), lambda: FakeRun(name=next(names)))) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        askers = [pool.submit(ask, client) for _ in range(4)]
        for _ in range(3):
            time.sleep(0.05)
            assert client.post("/reload", {})[0] == 200
        time.sleep(0.05)
        done.set()
        answers = [answer for asker in askers for answer in asker.result()]
    assert {status for status, _ in answers} == {200}
    assert {run for _, run in answers} >= {"fake/one", "fake/four"}


def test_a_watcher_finds_the_newer_run() -> None:
    server = make_server(FakeRun(), newer, watch=0.02)
    with serving(server) as client:
        end = time.monotonic() + 20
        while client.get("/health")[1]["run"] != "fake/two":
            assert time.monotonic() < end
            time.sleep(0.02)


def test_a_watcher_tries_a_broken_run_once() -> None:
    server = make_server(FakeRun(), broken, watch=0.02)
    with serving(server) as client:
        time.sleep(0.3)
        assert client.get("/health")[1]["run"] == "fake/one"
        assert (
            'legos_reloads_total{result="failed"} 1.0' in client.send("GET", "/metrics")[2].decode()
        )
