"""Files of one JSON object or Python dict a line, as sources of rows; parsed on all cores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from process.bad_lines import BadLines
from process.json_blocks import Lines, read_blocks
from process.table.sources import Block


class ObjectLines:
    """A file as ``process.table.sources.Source`` has it.

    Args:
        path: of the file, plain or ``.gz``.
        names: keys that become columns; an object without one has None there.
        python_too: a line may also be a Python dict of plain values; nothing of it runs.
    """

    commas = False
    zoned: frozenset[str] = frozenset()
    digest = ""
    further: tuple[Path, ...] = ()

    def __init__(self, path: Path, names: Sequence[str], *, python_too: bool = False) -> None:
        self.path: Path | None = path
        self.label, self.names = str(path), list(names)
        self._file, self._python_too = path, python_too

    def at(self, line: int) -> str:
        """``file:line``."""
        return f"{self._file}:{line}"

    def blocks(self, names: Sequence[str], bad: BadLines) -> Iterator[Block]:
        """Rows with some of the columns; lines that are no objects are bad lines."""
        parse = partial(_columns, tuple(names))
        read = read_blocks(
            [self._file], f"reading {self._file.name}", parse, bad, python_too=self._python_too
        )
        for columns, lines in read:
            if len(lines):
                yield Block(columns, lines)


def _columns(
    names: tuple[str, ...], lines: Lines, _: None
) -> tuple[tuple[dict[str, np.ndarray], np.ndarray], bool]:
    """The values of some keys by line."""
    rows = list(lines)
    columns: dict[str, Any] = {
        name: np.fromiter((row.values.get(name) for row in rows), object, len(rows))
        for name in names
    }
    return (columns, np.fromiter((row.line for row in rows), np.int64, len(rows))), True
