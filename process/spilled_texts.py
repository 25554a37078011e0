"""Texts of millions of rows on disk, read back in pages: memory holds where they are.

They lie in temporary files without a name, which are gone with the process; ``TMPDIR`` says where.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import overload

import numpy as np
import pyarrow as pa

from legos.scratch import PAGE


class SpilledTexts:
    """Rows of texts, one of each field.

    Args:
        fields: their names.
    """

    def __init__(self, fields: Sequence[str]) -> None:
        self.fields = tuple(fields)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as there are readers
        self._lengths, self._begins = array("I"), array("q")
        self._end = 0

    def __len__(self) -> int:
        return len(self._begins)

    def add(self, block: TextBlock) -> None:
        """Append the rows of a block."""
        lengths = block.lengths.reshape(-1, len(self.fields))
        sizes = lengths.sum(axis=1, dtype=np.int64)
        self._begins.frombytes((self._end + np.cumsum(sizes) - sizes).tobytes())
        self._lengths.frombytes(lengths.tobytes())
        self._file.write(block.content)
        self._end += len(block.content)

    def row(self, number: int) -> dict[str, str]:
        """The texts of one row that are not empty, by field."""
        self._file.flush()
        begin, width = self._begins[number], len(self.fields)
        lengths = self._lengths[number * width : (number + 1) * width]
        content = os.pread(self._file.fileno(), sum(lengths), begin)
        ends = [0, *accumulate(lengths)]
        return {
            name: content[start:end].decode("utf-8")
            for name, (start, end) in zip(self.fields, pairwise(ends), strict=True)
            if end > start
        }

    def filled(self, field: str, rows: np.ndarray) -> np.ndarray:
        """``(K,)`` bool: which of the rows have a text; -1 is a row without any."""
        lengths = np.asarray(self._lengths).reshape(-1, len(self.fields))
        mask: np.ndarray = rows >= 0
        if len(lengths):
            mask = mask & (lengths[rows, self.fields.index(field)] > 0)
        return mask

    def columns(self, rows: np.ndarray) -> dict[str, TextColumn]:
        """The texts of chosen rows by field; a field that is empty in all of them is left out.

        Args:
            rows: ``(K,)`` int64, in the order wanted; -1 is a row without any text.
        """
        self._file.flush()
        known = rows >= 0
        lengths = np.zeros((len(rows), len(self.fields)), dtype=np.uint32)
        lengths[known] = np.asarray(self._lengths).reshape(-1, len(self.fields))[rows[known]]
        begins = np.zeros(len(rows), dtype=np.int64)
        begins[known] = np.asarray(self._begins)[rows[known]]
        columns = [TextColumn(lengths[:, number]) for number in range(len(self.fields))]
        for first in range(0, len(rows), PAGE):
            part = slice(first, first + PAGE)
            for column, texts in zip(columns, self._page(begins[part], lengths[part]), strict=True):
                column.write(texts)
        return {
            name: column for name, column in zip(self.fields, columns, strict=True) if column.size
        }

    def _page(self, begins: np.ndarray, lengths: np.ndarray) -> Iterator[pa.Buffer]:
        """By field the texts of rows at ``begins`` ``(n,)``; neighbours are read together."""
        sizes = lengths.sum(axis=1, dtype=np.int64)
        order = np.argsort(begins, kind="stable")
        first, size = begins[order], sizes[order]
        runs = np.flatnonzero(np.append(True, first[1:] != (first + size)[:-1]))
        together = zip(first[runs].tolist(), np.add.reduceat(size, runs).tolist(), strict=True)
        source = self._file.fileno()
        content = b"".join(os.pread(source, length, begin) for begin, length in together)
        ends = np.cumsum(np.append(0, lengths[order]), dtype=np.int64)
        buffers = [None, pa.py_buffer(ends), pa.py_buffer(content)]
        texts = pa.Array.from_buffers(pa.large_binary(), len(ends) - 1, buffers)
        places = np.empty(len(order), dtype=np.int64)
        places[order] = np.arange(0, len(ends) - 1, len(self.fields))
        for field in range(len(self.fields)):
            yield texts.take(pa.array(places + field)).buffers()[2]


class TextBlock:
    """Texts that go to disk together: their bytes, and ``lengths``, uint32, row after row."""

    def __init__(self, encoded: Sequence[bytes]) -> None:
        self.lengths = np.fromiter(map(len, encoded), dtype=np.uint32, count=len(encoded))
        self.content = b"".join(encoded)


class TextColumn(Sequence[str]):
    """One text a row, on disk in the order of the rows.

    Args:
        lengths: ``(n,)`` uint32 bytes.
    """

    def __init__(self, lengths: np.ndarray) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the column
        self._ends = np.cumsum(lengths, dtype=np.int64)

    @property
    def size(self) -> int:
        """Bytes of all texts."""
        return int(self._ends[-1]) if len(self) else 0

    def write(self, texts: pa.Buffer) -> None:
        """Append texts, one after the other; all must be there before the first is read."""
        self._file.write(texts)
        self._file.flush()

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        rows = range(len(self))[index]
        if isinstance(rows, int):
            return self._read(rows, rows + 1)[0]
        if rows.step != 1:
            return [self[row] for row in rows]
        return self._read(rows.start, rows.stop)

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), PAGE):
            yield from self[first : first + PAGE]

    def _read(self, first: int, last: int) -> list[str]:
        begin = int(self._ends[first - 1]) if first else 0
        ends = (self._ends[first:last] - begin).tolist()
        content = os.pread(self._file.fileno(), ends[-1] if ends else 0, begin)
        return [
            content[start:end].decode("utf-8") for start, end in zip([0, *ends], ends, strict=False)
        ]
