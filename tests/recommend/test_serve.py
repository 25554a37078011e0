"""``legos serve`` as a process: it answers what the run recommends, and ends without losing any."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from threading import Barrier, Event

import pytest

import legos
from legos.commands.serve import _parser as serve_parser
from legos.commands.serve import main
from legos.recommend.run import TrainedRun
from tests.forked import forked_python

for package in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(package, reason="needs pip install -r requirements-serve.txt")


@contextmanager
def served(run: Path, output: Path) -> Iterator[tuple[ForkServerProcess, str]]:
    """The process of a server and its address."""
    environment = {key: value for key, value in os.environ.items() if key != "LEGOS_API_KEY"}
    (output / "out").write_text("")
    words = ["-m", "legos", "serve", str(run), "--port", "0"]
    process = forked_python(words, environment, output / "out", output / "errors")
    try:
        while "/docs" not in (printed := (output / "out").read_text()):
            assert process.is_alive(), (output / "errors").read_text()
            time.sleep(0.02)
        yield process, printed.splitlines()[1].split()[0]
    finally:
        process.kill()
        process.join()


def end(process: ForkServerProcess, number: int) -> int | None:
    """Send a signal; returns the exit code."""
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(60)
    return process.exitcode


def ask(address: str, user: str) -> list[str]:
    request = urllib.request.Request(  # noqa: S310 - a server of this test
        f"{address}/recommend",
        json.dumps({"user": user, "k": 5}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return [item["item_id"] for item in json.load(answer)["items"]]


@pytest.mark.slow
@pytest.mark.multiprocess
def test_sigterm_under_load_loses_no_request_that_was_taken(
    trained: Path, opened: TrainedRun, tmp_path: Path
) -> None:
    users, stopped = opened.users[:4], Event()
    begun = Barrier(len(users) + 1, timeout=60)
    expected = {user: opened.recommend(user, k=5)["item_id"].tolist() for user in users}

    def load(user: str) -> None:
        assert ask(address, user) == expected[user]
        begun.wait()
        while True:
            try:
                assert ask(address, user) == expected[user]
            except (urllib.error.URLError, ConnectionError) as error:
                reason = getattr(error, "reason", error)
                # the door was shut before the request was read; an answer that breaks off, an
                # IncompleteRead, or a 5xx would be a request that was lost
                assert isinstance(reason, ConnectionError), reason
                assert stopped.is_set()
                return

    with served(trained, tmp_path) as (process, address), ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load, user) for user in users]
        begun.wait()  # each has had an answer and asks again
        stopped.set()
        assert end(process, signal.SIGTERM) == 0
        for each in loads:
            each.result()


@pytest.mark.slow
@pytest.mark.multiprocess
def test_killed_and_started_again_it_recommends_the_same(trained: Path, tmp_path: Path) -> None:
    lists = []
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        with served(trained.parent, tmp_path) as (process, address):
            lists.append(ask(address, "U1"))
            assert end(process, number) == code
            with pytest.raises(urllib.error.URLError):
                ask(address, "U1")
    assert lists[0] == lists[1]


@pytest.mark.slow
@pytest.mark.parametrize("system", ["cllm4rec", "recsysllm"])
def test_systems_of_language_models_answer_or_say_in_a_line_what_they_cannot(
    system: str, request: pytest.FixtureRequest
) -> None:
    from tests.server.serving import make_server, serving

    run = legos.open(request.getfixturevalue(system).folder, device="cpu")  # items are added
    user, items = run.users[0], run.items["item_id"].tolist()[:2]
    expected = run.recommend(user, k=3)
    with serving(make_server(run)) as client:
        _, listed = client.post("/recommend", {"user": user, "k": 3})
        assert [item["item_id"] for item in listed["items"]] == expected["item_id"].tolist()
        _, told = client.post("/score", {"users": [user], "items": items})
        assert told["scores"][0] == pytest.approx(run.score([user], items).to_numpy()[0].tolist())
        able = {  # whether a model can: a list of a new reader, similar items, new items
            "/recommend": ({"history": items, "k": 3}, system == "recsysllm"),
            "/similar": ({"item": items[0]}, system == "cllm4rec"),
            "/items": ({"items": [{"item_id": "new", "title": "a"}]}, system == "recsysllm"),
        }
        for path, (body, can) in able.items():
            status, told = client.post(path, body)
            assert (status < 300, status == 422) == (can, not can), told
            assert can or "\n" not in told["error"]


def test_a_port_in_use_names_the_next_free_one(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main([str(trained), "--port", str(port)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: port {port} of 127.0.0.1 is in use; ")
    assert "is free: --port " in error


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "nowhere"),
        (["RUN", "--host", "192.0.2.7"], "--host 192.0.2.7: no address of this machine"),
        (["RUN", "--host", "no.such.name.invalid"], "no address of this machine"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    trained: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    words = [str(trained) if word == "RUN" else word for word in words]
    assert main([*words, "--port", "0"]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1 or "nowhere" in words


@pytest.mark.parametrize("key", ["", "two words", "ключ"])
def test_a_key_that_no_header_holds_is_refused(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("LEGOS_API_KEY", key)
    assert main([str(trained), "--port", "0"]) == 2
    assert "LEGOS_API_KEY: empty, or with spaces" in capsys.readouterr().err


def test_the_guide_shows_commands_that_are_there() -> None:
    guide = Path(__file__).resolve().parents[2] / "docs" / "recommend-and-serve.md"
    text = guide.read_text(encoding="utf-8").split("\n## Serve\n")[1]
    commands = re.findall(r"^legos serve (.*?) *(?:#.*)?$", text, re.MULTILINE)
    others = r"^(?:legos (?!serve)|pip ).*$"  # lines about other commands
    options = set(
        re.findall(r"(?<![\w-])--[a-z][a-z-]*", re.sub(others, "", text, flags=re.MULTILINE))
    )
    assert commands
    for command in commands:
        serve_parser().parse_args(command.split())
    assert options <= set(re.findall(r"--[a-z][a-z-]*", serve_parser().format_help()))


def test_answers_do_not_wait_for_acknowledgements() -> None:
    from legos.server.run import listen

    with listen("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP  # else asyncio leaves Nagle's algorithm on
