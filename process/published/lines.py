"""Text files with one separator of one or more characters and no quotes, with or without a header.

A block whose asked columns are all declared as numbers is parsed by Arrow, whole. A block that
Arrow refuses is read line by line, so that errors name the line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from process.bad_lines import BadLine, BadLines
from process.table.sources import Block
from process.tsv import whole_lines

BLOCK_BYTES = 1 << 21  # some 90,000 ratings; larger blocks are no faster
_SHOWN = 60

Number = Literal["int64", "float64"]


class SeparatedLines:
    """A file as ``process.table.sources.Source`` has it.

    Args:
        path: of the file, plain or ``.gz``.
        names: of its columns, in order.
        separator: between cells; no cell holds it.
        header: the first line names the columns; it is skipped.
        numbers: columns that hold numbers alone, each with its type.
        encoding: of the characters.
    """

    commas = False
    zoned: frozenset[str] = frozenset()
    digest = ""
    further: tuple[Path, ...] = ()

    def __init__(
        self,
        path: Path,
        names: Sequence[str],
        *,
        separator: str,
        header: bool = False,
        numbers: Mapping[str, Number] | None = None,
        encoding: str = "utf-8",
    ) -> None:
        self.path: Path | None = path
        self.label, self.names = str(path), list(names)
        self._file, self._separator, self._header = path, separator, header
        self._numbers, self._encoding = dict(numbers or {}), encoding

    def at(self, line: int) -> str:
        """``file:line``."""
        return f"{self._file}:{line}"

    def blocks(self, names: Sequence[str], bad: BadLines) -> Iterator[Block]:
        """Rows with some of the columns; lines of another width or encoding are bad lines.

        Raises:
            DataError: a damaged file.
        """
        line = 1
        for data in whole_lines(self._file, BLOCK_BYTES):
            first = line
            line += data.count(b"\n")
            if self._header and first == 1:
                data, first = data.partition(b"\n")[2], 2
            if not data:
                continue
            block = self._numbers_of(data, first, names) or self._cells_of(data, first, names, bad)
            bad.lines += len(block)
            if len(block):
                yield block

    def _numbers_of(self, data: bytes, first: int, names: Sequence[str]) -> Block | None:
        """A block that Arrow can parse, else None."""
        if not self._numbers.keys() >= set(names):
            return None
        import pyarrow as pa
        from pyarrow import csv

        try:
            table = csv.read_csv(
                pa.BufferReader(data.replace(self._separator.encode(), b"\t")),
                csv.ReadOptions(column_names=self.names, use_threads=False),
                csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False),
                csv.ConvertOptions(
                    column_types=self._numbers, include_columns=list(names), null_values=[]
                ),
            )
        except pa.ArrowInvalid:
            return None
        columns = {name: table.column(name).to_numpy() for name in names}
        return Block(columns, np.arange(first, first + len(table)))

    def _cells_of(self, data: bytes, first: int, names: Sequence[str], bad: BadLines) -> Block:
        """A block as texts; what is not a row of the file is left out."""
        rows, lines = [], []
        for line, raw in enumerate(data.removesuffix(b"\n").split(b"\n"), start=first):
            if not raw.strip():
                continue
            cells = self._row(raw.removesuffix(b"\r"), line, bad)
            if cells is not None:
                rows.append(cells)
                lines.append(line)
        places = {name: self.names.index(name) for name in names}
        columns = {
            name: np.fromiter((row[place] for row in rows), object, len(rows))
            for name, place in places.items()
        }
        return Block(columns, np.array(lines, dtype=np.int64))

    def _row(self, raw: bytes, line: int, bad: BadLines) -> list[str] | None:
        try:
            cells = raw.decode(self._encoding).split(self._separator)
        except UnicodeDecodeError as error:
            found = f"not {self._encoding.upper()} (byte 0x{raw[error.start]:02x})"
            self._refuse(BadLine(self.at(line), f"not {self._encoding.upper()}", found), bad)
            return None
        if len(cells) == len(self.names):
            return cells
        self._refuse(
            BadLine(
                self.at(line),
                f"not {len(self.names)} columns",
                f"{len(cells)} columns separated by {self._separator!r}, expected "
                f"{len(self.names)} ({', '.join(self.names)}): "
                f"{raw.decode(self._encoding)[:_SHOWN]!r}",
            ),
            bad,
        )
        return None

    def _refuse(self, error: BadLine, bad: BadLines) -> None:
        bad.lines += 1
        bad.add(error)
