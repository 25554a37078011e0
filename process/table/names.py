"""Names in large columns as whole numbers, with the place where each first stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from process.table.sources import Source


class Names:
    """Distinct names in order of first appearance, with the place of the first.

    Attributes:
        codes: name -> code.
    """

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self._first: list[tuple[Source, int]] = []

    def first(self, code: int) -> str:
        """The place where a name first appears, to begin a message with."""
        source, line = self._first[code]
        return source.at(line)

    def code(
        self, values: np.ndarray, lines: np.ndarray, source: Source, convert: Callable[[Any], str]
    ) -> np.ndarray:
        """``(n,)`` int32 codes of a block's values, -1 where there is none."""
        if values.dtype == object:  # JSON may have lists and objects where a name is expected
            values = np.fromiter(map(_single, values), object, len(values))
        rows, distinct = pd.factorize(values, use_na_sentinel=True)
        if not len(distinct):
            return np.full(len(values), -1, dtype=np.int32)
        codes = np.empty(len(distinct) + 1, dtype=np.int32)
        codes[-1] = -1
        starts = np.full(len(distinct), -1)
        starts[rows[::-1]] = np.arange(len(rows))[::-1]
        for place, value in enumerate(distinct.tolist()):
            name = convert(value)
            code = self.codes.get(name, -1)
            if not name:
                codes[place] = -1
                continue
            if code < 0:
                code = self.codes[name] = len(self.codes)
                self._first.append((source, int(lines[starts[place]])))
            codes[place] = code
        return codes[rows]


def _single(value: Any) -> Any:
    return None if isinstance(value, list | dict | tuple | np.ndarray) else value
