"""What files say of items in millions: ids in memory, texts on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from process.spilled_texts import SpilledTexts, TextBlock, TextColumn


class Described(Mapping[str, dict[str, str]]):
    """Fields by item id, only filled ones; the texts lie on disk.

    Args:
        fields: their names.
        fullness: of two descriptions of an item the one of which this is greater counts.
    """

    def __init__(self, fields: Sequence[str], fullness: Callable[[Mapping[str, str]], Any]) -> None:
        self._fullness = fullness
        self._rows: dict[str, int] = {}
        self._texts = SpilledTexts(fields)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __contains__(self, item: object) -> bool:
        return item in self._rows

    def __getitem__(self, item: str) -> dict[str, str]:
        return self._texts.row(self._rows[item])

    def add(self, items: Sequence[str | None], texts: TextBlock) -> int:
        """Add rows of texts; of several rows of one item the fullest counts.

        Args:
            items: whom the rows describe; None: nobody who matters.
            texts: one a row and field.

        Returns:
            How many of the items were there already.
        """
        before, twice = len(self._texts), 0
        self._texts.add(texts)
        for row, item in enumerate(items, start=before):
            if item is None:
                continue
            known = self._rows.setdefault(item, row)
            if known != row:
                twice += 1
                fullest = max(known, row, key=lambda each: self._fullness(self._texts.row(each)))
                self._rows[item] = fullest
        return twice

    def titled(self, items: Sequence[str]) -> np.ndarray:
        """``(n,)`` bool: which of the items have a title."""
        return self._texts.filled("title", self._rows_of(items))

    def columns(self, items: Sequence[str]) -> dict[str, TextColumn]:
        """The fields of items that may be unknown, "" where there is nothing."""
        return self._texts.columns(self._rows_of(items))

    def _rows_of(self, items: Sequence[str]) -> np.ndarray:
        rows = (self._rows.get(item, -1) for item in items)
        return np.fromiter(rows, dtype=np.int64, count=len(items))


def text_block(items: Sequence[Mapping[str, str]], fields: Sequence[str]) -> TextBlock:
    """The fields of items as rows of texts, "" where one is missing."""
    return TextBlock([each.get(name, "").encode() for each in items for name in fields])
