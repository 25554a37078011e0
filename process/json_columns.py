"""The JSON objects of a block of lines as columns, for files of which nearly all lines are plain.

A plain line has values of the types that its release writes. All others are *odd* and read one by
one, so what they mean, and what is wrong with them, is said in one place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import NoneType
from typing import Any

import numpy as np
import orjson

from process.json_blocks import Lines, lines_with_long_numbers
from process.json_lines import Row

_TOGETHER = 64  # lines
_NO_OBJECT: dict[str, Any] = {}
MISSING = np.iinfo(np.int64).min
"""A whole number that is not there."""


class LineColumns:
    """``n`` lines, blank ones left out.

    Attributes:
        raw: their bytes.
        odd: ``(n,)`` bool, which of them must be read one by one.

    Args:
        lines: of a block.
        keys: whose values are wanted.
    """

    def __init__(self, lines: Lines, keys: Sequence[str]) -> None:
        self._lines = lines
        self._numbers, self.raw = _filled(lines.content)
        self._columns: dict[str, list[Any]] = {key: [] for key in keys}
        odd = list[int]()
        for first in range(0, len(self.raw), _TOGETHER):  # few, so that they stay in the cache
            values = _objects(self.raw[first : first + _TOGETHER])
            odd += [first + at for at, each in enumerate(values) if each is _NO_OBJECT]
            for key, column in self._columns.items():
                column += [each.get(key) for each in values]
        self.odd = np.zeros(len(self.raw), dtype=bool)
        self.odd[odd] = True
        if long := lines_with_long_numbers(lines.content):
            for at in [at for at, number in enumerate(self._numbers) if number in long]:
                self.odd[at] = True
                for column in self._columns.values():
                    column[at] = None

    def values(self, key: str, kinds: frozenset[type], missing: Any) -> list[Any]:
        """The values of a key, of ``kinds``.

        Lines with a value of another type become odd.

        Args:
            key: of the value.
            kinds: types of plain values.
            missing: instead of null, of nothing, and of a value of another type.
        """
        found = self._columns[key]
        here = set(map(type, found))
        if here <= kinds:
            return found
        if not here <= kinds | {NoneType}:
            self.odd |= [type(value) not in kinds and value is not None for value in found]
        return [value if type(value) in kinds else missing for value in found]

    def ids(self, key: str) -> list[str]:
        """Ids that are strings and not blank."""
        found = self.values(key, frozenset({str}), "")
        blank = {name for name in set(found) if not name or name.isspace()}
        if blank:
            self.odd |= [name in blank for name in found]
        return found

    def one_by_one(self) -> Iterator[tuple[int, Row]]:
        """The odd lines that hold an object, each with its place in the columns."""
        for at in np.flatnonzero(self.odd).tolist():
            self._lines.read = at + 1
            row = self._lines.row(self._numbers[at], self.raw[at])
            if row is not None:
                yield at, row
        self._lines.read = len(self.raw)


def _filled(content: bytes) -> tuple[Sequence[int], list[bytes]]:
    """The lines that are not blank, and their numbers, from 0."""
    raw = content.split(b"\n")
    if not raw[-1]:
        del raw[-1]
    if all(raw) and not any(map(bytes.isspace, raw)):
        return range(len(raw)), raw
    numbers = [number for number, text in enumerate(raw) if text and not text.isspace()]
    return numbers, [raw[number] for number in numbers]


def _objects(raw: Sequence[bytes]) -> list[dict[str, Any]]:
    """The objects of lines; ``_NO_OBJECT`` of a line that is none, or that orjson refuses."""
    try:
        values = list(map(orjson.loads, raw))
    except ValueError:
        values = list(map(_loaded, raw))
    return [value if type(value) is dict else _NO_OBJECT for value in values]


def _loaded(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        return None
