"""Every progress bar: on a terminal while something long goes on, nothing where there is none."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment

from legos.terminal import printable


class Bar:
    """One bar: rich's display, or None where nothing is shown, and its only task."""

    def __init__(self, progress: Progress | None, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, steps: int = 1, text: str = "") -> None:
        """Move on by so many steps; the text stands behind the bar until the next call."""
        if self._progress is not None:
            self._progress.update(self._task, advance=steps, text=text)

    def move(self, position: int, text: str = "") -> None:
        """The same, to a position."""
        if self._progress is not None:
            self._progress.update(self._task, completed=position, text=text)


@contextmanager
def progress_bar(
    title: str, total: int, *, done: int = 0, percent: bool = False, console: Console | None = None
) -> Iterator[Bar]:
    """A bar for the time of the block, with the time that is left; in the first process.

    Args:
        title: what is going on.
        total: the position that means done.
        done: where it starts.
        percent: show a share instead of two counts, as for bytes.
        console: where it goes; None: standard error.
    """
    console = console or PlainConsole(stderr=True)
    if console.quiet or not console.is_terminal or os.environ.get("RANK", "0") != "0":
        yield Bar(None, TaskID(0))
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
        yield Bar(progress, task)


@contextmanager
def announced(text: str, after: float = 2.0) -> Iterator[None]:
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
