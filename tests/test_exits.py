"""How commands end: exit codes, one message, nothing that steers a terminal."""

from __future__ import annotations

import argparse
import errno
import io
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import sleep

import numpy as np
import pytest
from rich.progress import Progress, TextColumn
from rich.table import Table
from safetensors import SafetensorError

from legos.errors import CheckpointError, ConfigError, DataError, OutOfMemory, run_command
from legos.files import write_array
from legos.progress import PlainConsole, announced
from legos.terminal import printable
from process.command import run_cli

ROOT = Path(__file__).parents[1]
HOSTILE = "[red]a[/nothing]\x1b]0;title\x07\x1b[2J:smile:\u202eb\r\ud83d"
HARMLESS = r"[red]a[/nothing]\x1b]0;title\x07\x1b[2J:smile:\u202eb\r\ud83d"


def _raise(error: BaseException) -> Callable[[Sequence[str]], None]:
    def command(words: Sequence[str]) -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ConfigError("a key"), 2, "a key"),
        (DataError("a file"), 2, "a file"),
        (CheckpointError("a checkpoint"), 2, "a checkpoint"),
        (OutOfMemory("too little"), 2, "too little"),
        (MemoryError(), 2, "out of memory on this machine"),
        (FileNotFoundError(2, "No such file or directory", "a.npy"), 2, "a.npy: No such file"),
        (OSError(errno.ENOSPC, "No space left on device", "b"), 2, "b: No space left on device"),
        (OSError("1000 requested and 24 written"), 2, "No space left on device"),
        (
            SafetensorError("I/O error: No space left on device (os error 28)"),
            2,
            "No space left on device",
        ),
        (RuntimeError("bug\nsecond line"), 1, "RuntimeError: bug (tests/test_exits.py:"),
        (RecursionError("maximum recursion depth exceeded"), 1, "RecursionError: maximum"),
        (KeyError("name"), 1, "KeyError: 'name' (tests"),
        (ZeroDivisionError(), 1, "ZeroDivisionError (tests"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), 1, "UnicodeDecodeError: 'utf-8'"),
        (AssertionError("x" * 9_999), 1, "AssertionError: xxx"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_error_is_one_message(
    error: Exception, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(_raise(error), []) == code
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told
    assert told.count("\n") == 1
    assert len(told) < 1000
    assert ("report it" in told) == (code == 1)


def test_the_trace_is_shown_on_request_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_command(_raise(DataError("x")), ["--traceback"]) == 2
    assert "Traceback (most recent call last)" in capsys.readouterr().err
    monkeypatch.setenv("LEGOS_TRACEBACK", "1")
    assert run_command(_raise(DataError("x")), []) == 2
    assert "Traceback (most recent call last)" in capsys.readouterr().err
    monkeypatch.setenv("LEGOS_TRACEBACK", "0")
    assert run_command(_raise(DataError("x")), []) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_command_never_sees_the_word_traceback() -> None:
    seen: list[str] = []
    assert run_command(lambda words: seen.extend(words), ["a", "--traceback", "b"]) == 0
    assert seen == ["a", "b"]


def test_a_command_says_its_own_exit_code() -> None:
    assert run_command(lambda words: 3, []) == 3


def test_what_takes_long_says_on_a_terminal_that_it_is_loading(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with announced("never said, a file reads it", after=0.01):
        sleep(0.1)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with announced("loading runs/shop ...", after=0.01):
        sleep(0.2)
    with announced("never said", after=5):
        pass
    caught = capsys.readouterr()
    assert (caught.out, caught.err) == ("", "loading runs/shop ...\n")


def test_ctrl_c_exits_130_and_keeps_its_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(_raise(KeyboardInterrupt()), [], interrupted="saved") == 130
    assert capsys.readouterr().err == "saved\n"


def test_of_several_processes_the_first_says_that_they_were_interrupted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for rank, said in (("0", "saved\n"), ("1", "")):
        monkeypatch.setenv("RANK", rank)
        assert run_command(_raise(KeyboardInterrupt()), [], interrupted="saved") == 130
        assert capsys.readouterr().err == said


@pytest.mark.parametrize("words", [["--number", "3", "--traceback"], ["--traceback"]])
def test_commands_of_process_end_in_the_same_way(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(args: argparse.Namespace) -> None:
        raise RuntimeError(f"bug {args.number}")

    parser = argparse.ArgumentParser()
    parser.add_argument("--number")
    monkeypatch.setattr(sys, "argv", ["command", *words])
    with pytest.raises(SystemExit) as end:
        run_cli(main, parser)
    assert end.value.code == 1
    told = capsys.readouterr().err
    assert "Traceback (most recent call last)" in told
    assert "error: RuntimeError: bug" in told


def test_hostile_names_are_text_in_messages_and_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command(words: Sequence[str]) -> None:
        print(HOSTILE)
        raise DataError(HOSTILE)

    assert run_command(command, []) == 2
    shown = capsys.readouterr()
    assert shown.out == HARMLESS + "\n"
    assert shown.err == f"error: {HARMLESS}\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_hostile_names_are_text_in_tables_and_bars(terminal: bool) -> None:
    stream = io.StringIO()
    console = PlainConsole(file=stream, width=300, force_terminal=terminal, color_system=None)
    console.print(HOSTILE)
    table = Table(HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE)
    console.print(table)
    with Progress(TextColumn("{task.description}", markup=False), console=console) as bar:
        bar.add_task(HOSTILE)
        bar.refresh()
    assert stream.getvalue().count(r"[red]a[/nothing]\x1b]0;title") >= 5
    assert "\x1b]" not in stream.getvalue()
    assert "\x1b[2J" not in stream.getvalue()


def test_printable_leaves_ordinary_text_alone() -> None:
    text = "naïve café, 日本語, emoji 😀, tab\t and\nline"
    assert printable(text) == text


@pytest.mark.parametrize("kind", ["closed pipe", "full disk", "ascii"])
def test_standard_output_that_takes_nothing(kind: str) -> None:
    script = (
        "import sys; from legos.errors import run_command\n"
        "sys.exit(run_command(lambda words: print('é' * 100_000), []))"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    if kind == "full disk":
        with open("/dev/full", "w") as target:
            done = subprocess.run(
                command, stdout=target, stderr=subprocess.PIPE, env=environment, check=False
            )
        assert (done.returncode, done.stderr) == (2, b"error: No space left on device\n")
    elif kind == "closed pipe":
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            command, stdout=writing, stderr=subprocess.PIPE, env=environment, check=False
        )
        os.close(writing)
        assert (done.returncode, done.stderr) == (141, b"")
    else:
        done = subprocess.run(command, capture_output=True, env=environment, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.startswith(rb"\xe9\xe9")


def test_a_full_disk_says_so_from_numpy_too(tmp_path: Path) -> None:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, old[1]))
    try:
        with pytest.raises(OSError, match="File too large") as full:
            write_array(tmp_path / "big.npy", np.zeros(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert full.value.errno == errno.EFBIG
    assert full.value.filename == str(tmp_path / "big.npy")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int32).reshape(2, 3),
        np.zeros(0, dtype=np.int64),
        np.float32(3.5),
        np.arange(12.0).reshape(3, 4)[:, ::2],
        np.array([True, False]),
    ],
    ids=["matrix", "empty", "scalar", "strided", "bool"],
)
def test_an_array_is_the_file_that_numpy_writes(tmp_path: Path, array: np.ndarray) -> None:
    write_array(tmp_path / "ours.npy", np.asarray(array))
    np.save(tmp_path / "theirs.npy", np.ascontiguousarray(array).reshape(np.shape(array)))
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()
