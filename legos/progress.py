"""Every progress bar: on a terminal while something long goes on; elsewhere a line a minute."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Timer
from time import monotonic
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment

from legos.terminal import printable

LINE_EVERY = 60.0  # seconds between two lines about a bar where no terminal shows it


class Bar:
    """One bar: its position, and what shows it.

    Args:
        done: the position at the start.
        show: gets the new position and the text behind it.
    """

    def __init__(self, done: int, show: Callable[[int, str], None]) -> None:
        self._position, self._show = done, show

    def advance(self, steps: int = 1, text: str = "") -> None:
        """Move on by so many steps; the text stands behind the bar until the next call."""
        self.move(self._position + steps, text)

    def move(self, position: int, text: str = "") -> None:
        """The same, to a position."""
        self._position = position
        self._show(position, text)


@contextmanager
def progress_bar(
    title: str, total: int, *, done: int = 0, percent: bool = False, console: Console | None = None
) -> Iterator[Bar]:
    """A bar for the time of the block, with the time that is left; in the first process.

    Where the console is no terminal, as in a log file, a line says as much every ``LINE_EVERY``
    seconds.

    Args:
        title: what is going on.
        total: the position that means done.
        done: where it starts.
        percent: show a share instead of two counts, as for bytes.
        console: where it goes; None: standard error.
    """
    console = console or PlainConsole(stderr=True)
    if console.quiet or os.environ.get("RANK", "0") != "0":
        yield Bar(done, lambda position, text: None)
        return
    if not console.is_terminal:
        yield Bar(done, _lines(console, title, total, done=done, percent=percent))
        return
    how_far = "{task.percentage:>3.0f}%" if percent else "{task.completed:,}/{task.total:,}"
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn(how_far),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=max(total, 1), completed=done, text="")
        yield Bar(done, lambda at, text: progress.update(task, completed=at, text=text))


def _lines(
    console: Console, title: str, total: int, *, done: int, percent: bool
) -> Callable[[int, str], None]:
    """What prints a line now and then: how far, how long so far, how much longer, and the text."""
    begin = last = monotonic()

    def show(position: int, text: str) -> None:
        nonlocal last
        now = monotonic()
        if now - last < LINE_EVERY or position >= total:
            return
        last = now
        share = f"{100 * position / max(total, 1):.0f}%"
        words = [share if percent else f"{position:,}/{total:,}", _duration(now - begin)]
        if position > done:
            left = (now - begin) / (position - done) * (total - position)
            words.append(f"{_duration(left)} left")
        console.print(f"{title}: {', '.join([*words, *filter(None, [text])])}", soft_wrap=True)

    return show


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


@contextmanager
def announced(text: str, after: float = 0.3) -> Iterator[None]:
    """A line on a terminal where the block takes long, so that nobody takes it for stuck.

    Args:
        text: of the line, which goes to standard error.
        after: seconds of the block until it is printed, in the first process.
    """
    if os.environ.get("RANK", "0") != "0" or not sys.stderr.isatty():
        yield
        return
    timer = Timer(after, lambda: print(printable(text), file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class PlainConsole(Console):
    """A console to which ``[red]``, ``:smile:`` and escape sequences in a text are plain text."""

    def __init__(self, **settings: Any) -> None:
        plain = {"markup": False, "highlight": False, "emoji": False}
        super().__init__(**{**plain, **settings})

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render as rich does, with unprintable characters escaped."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)
