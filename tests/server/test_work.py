"""Requests are answered together, wait in a bounded queue, and are given up in time."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.server.fake import FakeRun
from tests.server.serving import Client, make_server, serving


def wait_until(done: Any) -> None:
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end
        time.sleep(0.005)


def queue_of(client: Client) -> int:
    return int(client.get("/health")[1]["queue"])


def test_lists_that_wait_are_found_together_and_equal_those_found_alone() -> None:
    run, alone = FakeRun(), FakeRun()
    asked = [
        {"user": f"u{number}", "k": 1 + number, "exclude_seen": number % 2 == 0}
        for number in range(8)
    ]
    with serving(make_server(run, batch=16)) as client, ThreadPoolExecutor(9) as pool:
        run.gate.clear()
        first = pool.submit(client.post, "/recommend", {"user": "u9"})
        wait_until(lambda: queue_of(client) == 0)
        answers = [pool.submit(client.post, "/recommend", each) for each in asked]
        wait_until(lambda: queue_of(client) == 8)
        run.gate.set()
        assert first.result()[0] == 200
        for each, answer in zip(asked, answers, strict=True):
            expected = alone.recommend_many(
                [each["user"]], each["k"], exclude_seen=each["exclude_seen"]
            )[0]
            found = [item["item_id"] for item in answer.result()[1]["items"]]
            assert found == expected["item_id"].tolist()
    assert run.batches == [1, 4, 4]  # a batch of eight, by whether seen items are left out


def test_health_answers_while_the_model_works() -> None:
    run = FakeRun()
    with serving(make_server(run)) as client, ThreadPoolExecutor(1) as pool:
        run.gate.clear()
        waiting = pool.submit(client.post, "/recommend", {"user": "u1"})
        assert client.get("/health")[0] == 200
        run.gate.set()
        assert waiting.result()[0] == 200


def test_a_full_queue_says_when_to_come_back() -> None:
    run = FakeRun()
    with serving(make_server(run, queue=2, batch=1)) as client, ThreadPoolExecutor(3) as pool:
        run.gate.clear()
        held = [pool.submit(client.post, "/recommend", {"user": "u1"})]
        time.sleep(0.1)
        held += [pool.submit(client.post, "/recommend", {"user": "u1"}) for _ in range(2)]
        wait_until(lambda: queue_of(client) == 2)
        body = b'{"user": "u1"}'
        status, headers, answer = client.send(
            "POST", "/recommend", body, Content_Type="application/json"
        )
        assert (status, headers["retry-after"]) == (503, "1")
        assert b"2 requests are waiting" in answer
        run.gate.set()
        assert [each.result()[0] for each in held] == [200, 200, 200]


def test_a_request_that_takes_too_long_is_given_up_and_the_next_is_answered() -> None:
    run = FakeRun()
    with serving(make_server(run, timeout=0.2)) as client:
        run.gate.clear()
        status, told = client.post("/recommend", {"user": "u1"})
        assert status == 504
        assert "no answer within 0.2 s" in told["error"]
        run.gate.set()
        assert client.post("/recommend", {"user": "u1"})[0] == 200


def test_a_batch_waits_for_company_when_told_to() -> None:
    run = FakeRun()
    with serving(make_server(run, batch=4, wait=5.0)) as client, ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(client.post, "/recommend", {"user": f"u{n}"}) for n in range(4)]
        assert [answer.result()[0] for answer in answers] == [200] * 4
    assert run.batches == [4]


def test_one_that_fails_spoils_no_other() -> None:
    run = FakeRun()
    with serving(make_server(run, batch=4, wait=5.0)) as client, ThreadPoolExecutor(4) as pool:
        del run.had["u2"]  # gone between the check and the batch
        answers = [pool.submit(client.post, "/recommend", {"user": f"u{n}"}) for n in range(4)]
        assert [answer.result()[0] for answer in answers] == [200, 200, 422, 200]


def test_a_fault_of_the_server_is_one_line_without_its_reason(caplog: Any) -> None:
    run = FakeRun()
    run.similar = None  # type: ignore[assignment]
    with serving(make_server(run)) as client:
        status, told = client.post("/similar", {"item": "i1"})
        assert status == 500
        assert told["error"] == "internal server error; see its log"
        assert "legos_errors_total 1.0" in client.send("GET", "/metrics")[2].decode()
    assert "NoneType" in caplog.text
