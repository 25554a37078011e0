"""The console of every table and progress bar: texts of others are text there, never markup."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from legos.terminal import printable


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
