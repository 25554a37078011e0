"""What a reader of a published layout is: which files hold what, and how columns are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from process.bad_lines import BadLines
from process.raw import RawData
from process.table.sources import Block, Source

Columns = Mapping[str, np.ndarray]
Make = Callable[[Columns, BadLines], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Layout:
    """A folder that was recognised.

    Attributes:
        name: of the layout: ``movielens-1m``.
        items, events, users: the files; users may be none.
        asked: options of ``legos table`` that say which column is what, with ``_`` for ``-``.
    """

    name: str
    items: Sequence[Source]
    events: Sequence[Source]
    users: Sequence[Source] = ()
    asked: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ShownLayout:
    """A folder with a log of what was shown and clicked, which is split as it was published.

    Attributes:
        name: of the layout.
        read: makes the data set of its name and of the share of rows that may be bad.
    """

    name: str
    read: Callable[[str, float], RawData]


class Derived:
    """A source some of whose columns are made of others.

    Args:
        source: that has the rows.
        names: of the columns in order; those that ``make`` does not give are the source's.
        make: what it makes of the source's columns ``(n,)`` each; ``(n,)`` each.
        further: other files that ``make`` reads.
    """

    def __init__(
        self,
        source: Source,
        names: Sequence[str],
        make: Make,
        *,
        further: Sequence[Path] = (),
    ) -> None:
        self._source, self.names, self._make = source, list(names), make
        self.label, self.path, self.commas = source.label, source.path, source.commas
        self.zoned, self.digest = source.zoned, source.digest
        self.further = (*source.further, *further)

    def at(self, line: int) -> str:
        """A place in the source."""
        return self._source.at(line)

    def blocks(self, names: Sequence[str], bad: BadLines) -> Iterator[Block]:
        """The source's rows with some of the columns."""
        for block in self._source.blocks(self._source.names, bad):
            every = block.columns | self._make(block.columns, bad)
            yield Block({name: every[name] for name in names}, block.lines)
