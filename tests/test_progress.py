"""Tests of progress: a bar on a terminal, a line a minute in a log file."""

from __future__ import annotations

from io import StringIO

import pytest

import legos.progress
from legos.progress import LINE_EVERY, PlainConsole, progress_bar


class Clock:
    """Stands still until a test moves it."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(legos.progress, "monotonic", clock)
    return clock


def in_a_file(**settings: bool) -> tuple[StringIO, PlainConsole]:
    file = StringIO()
    return file, PlainConsole(file=file, width=40, **settings)


def test_a_log_file_gets_a_line_a_minute_with_the_time_that_is_left(clock: Clock) -> None:
    file, console = in_a_file()
    with progress_bar("epoch 2", 1_000, done=100, console=console) as bar:
        for _ in range(9):
            clock.now += LINE_EVERY / 4
            bar.advance(50, text="loss 0.5000 [red]")
    assert file.getvalue().splitlines() == [
        "epoch 2: 300/1,000, 0:01:00, 0:03:30 left, loss 0.5000 [red]",
        "epoch 2: 500/1,000, 0:02:00, 0:02:30 left, loss 0.5000 [red]",
    ]


def test_what_is_over_within_a_minute_says_nothing(clock: Clock) -> None:
    file, console = in_a_file()
    with progress_bar("reading", 10, console=console) as bar:
        bar.move(5)
        clock.now += LINE_EVERY - 1
        bar.move(9)
        clock.now += 2
        bar.move(10)  # done: whoever began it says so
    assert file.getvalue() == ""


def test_bytes_are_said_in_percent_and_nothing_is_left_to_guess_before_the_first(
    clock: Clock,
) -> None:
    file, console = in_a_file()
    with progress_bar("reading", 3_000_000, percent=True, console=console) as bar:
        clock.now += LINE_EVERY
        bar.move(0)
        clock.now += LINE_EVERY
        bar.move(1_000_000)
    assert file.getvalue() == ("reading: 0%, 0:01:00\nreading: 33%, 0:02:00, 0:04:00 left\n")


@pytest.mark.parametrize(("rank", "quiet"), [("1", False), ("0", True)])
def test_other_processes_and_quiet_consoles_write_no_lines(
    rank: str, quiet: bool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    file, console = in_a_file(quiet=quiet)
    with progress_bar("reading", 10, console=console) as bar:
        clock.now += LINE_EVERY
        bar.advance()
    assert file.getvalue() == ""
