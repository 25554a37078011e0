"""Strict reading of large TAB-separated files: columns, ids within a column, errors with a line.

TAB and line feed are the only separators and quotes are data, as in MIND. A file is read in blocks
of whole lines, so memory does not grow with its size.
"""

from __future__ import annotations

import gzip
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from legos.errors import DataError
from legos.files import LONGEST_LINE, BoundedGzip
from legos.progress import progress_bar

BLOCK_BYTES = 1 << 24  # larger blocks are no faster
TAB, LINE_FEED = 9, 10


@dataclass(frozen=True)
class Block:
    """Some consecutive lines of a file.

    Attributes:
        path: the file.
        first_line: 1-based number of the first line.
        columns: per name ``(n,)`` str objects.
        left_out: rows, counted from ``first_line``, that are in no column any more.
    """

    path: Path
    first_line: int
    columns: dict[str, np.ndarray]
    left_out: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def at(self, row: int) -> str:
        """``file:line`` of a row, to begin an error message with."""
        return f"{self.path}:{self.numbers[row]}"

    @property
    def numbers(self) -> np.ndarray:
        """``(n,)`` int64 the number of every line."""
        every = np.arange(self.first_line, self.first_line + len(self) + len(self.left_out))
        return np.delete(every, self.left_out)

    def without(self, rows: np.ndarray) -> Block:
        """The other rows; lines keep their numbers. ``rows (k,)`` int64."""
        if not len(rows):
            return self
        columns = {name: np.delete(values, rows) for name, values in self.columns.items()}
        return replace(self, columns=columns, left_out=tuple(rows.tolist()))


def refuse_repeated(path: Path, what: str, ids: np.ndarray, numbers: Sequence[np.ndarray]) -> None:
    """Raise DataError where two lines have one id.

    Args:
        path: of the file.
        what: the id is called.
        ids: ``(n,)`` of all lines.
        numbers: of the lines, block after block.
    """
    again = pd.Series(ids).duplicated().to_numpy()
    if again.any():
        lines, row = np.concatenate(numbers), int(np.flatnonzero(again)[0])
        before = int(np.flatnonzero(ids == ids[row])[0])
        raise DataError(
            f"{path}:{lines[row]}: {what} {ids[row]!r} occurs twice, first in line {lines[before]}"
        )


def read_blocks(
    path: Path, columns: Sequence[str], *, block_bytes: int = BLOCK_BYTES
) -> Iterator[Block]:
    """Yield the file's lines, block after block, split into columns.

    Args:
        path: a plain or ``.gz`` file.
        columns: names of the columns, in order.
        block_bytes: how much text a block holds at most (one line longer than that still fits).

    Raises:
        DataError: empty, cut short, not UTF-8, a NUL byte, or a line with another number of
            columns; the message begins with ``file:line``.
    """
    line = 1
    for text in whole_lines(path, block_bytes):
        block = _split(path, line, text, columns)
        yield block
        line += len(block)
    if line == 1:
        raise DataError(f"{path}: the file is empty, expected {len(columns)} columns a line")


def header_rows(
    block: Block, column: str, names: Sequence[str], other: str, beginning: str
) -> np.ndarray:
    """``(k,)`` int64: the rows that name columns, in any case, with blanks or underscores.

    Args:
        block: some lines of a file that should have no header.
        column: whose cell is one of ``names`` in a header.
        other: whose cell begins with ``beginning`` there as well.
    """
    wanted = {name.replace("_", " ") for name in names} | set(names)
    rows = [row for row, cell in enumerate(block.columns[column]) if cell.lower() in wanted]
    others = block.columns[other]
    named = [row for row in rows if others[row].lower().startswith(beginning)]
    return np.array(named, dtype=np.int64)


def find_file(folder: Path, name: str) -> Path | None:
    """``folder/name`` or ``folder/name.gz``, whichever is there."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return None


def require_file(folder: Path, name: str) -> Path:
    """``find_file`` that does not take no for an answer.

    Raises:
        DataError: no such folder or file; names what lies there instead.
    """
    path = find_file(folder, name)
    if path is None:
        raise DataError(f"{folder / name}: no such file{what_is_there(folder)}")
    return path


def what_is_there(folder: Path) -> str:
    """The tail of an error about a missing file: what the folder holds."""
    if not folder.is_dir():
        return f" (there is no folder {folder})"
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"; {folder} holds: {', '.join(names[:12]) or 'nothing'}{more}"


def whole_lines(path: Path, block_bytes: int) -> Iterator[bytes]:
    """Non-empty runs of bytes, each ending in a line feed.

    Args:
        path: a plain or ``.gz`` file.
        block_bytes: of a run, at most; a longer line still fits.

    Raises:
        DataError: a damaged file, or a line longer than any text.
    """
    rest = b""
    with (
        _open(path) as (stream, raw),
        progress_bar(str(path), path.stat().st_size, percent=True) as bar,
    ):
        while True:
            try:
                chunk = stream.read(block_bytes)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise DataError(
                    f"{path}: incomplete gzip file ({error}); it was cut short or damaged: "
                    "fetch it again"
                ) from None
            bar.move(raw.tell())
            if not chunk:
                break
            head, newline, tail = (rest + chunk).rpartition(b"\n")
            rest = tail
            if len(rest) > LONGEST_LINE:
                raise DataError(f"{path}: a line of more than {LONGEST_LINE:,} bytes; no text")
            if newline:
                yield head + newline
    if rest:
        yield rest + b"\n"


@contextmanager
def _open(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """The stream to read text from and the file whose position tells the progress."""
    with path.open("rb") as raw:
        if path.suffix == ".gz":
            with BoundedGzip(path, raw) as stream:
                yield stream, raw  # type: ignore[misc]  # GzipFile reads like any binary file
        else:
            yield raw, raw


def _split(path: Path, first_line: int, data: bytes, columns: Sequence[str]) -> Block:
    if first_line == 1:
        data = data.removeprefix(BOM_UTF8)
    if b"\r\n" in data:
        data = data.replace(b"\r\n", b"\n")
    raw = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(raw == LINE_FEED)
    tabs = np.searchsorted(np.flatnonzero(raw == TAB), ends)
    found = 1 + np.diff(tabs, prepend=0)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + int(np.searchsorted(ends, error.start))
        raise DataError(
            f"{path}:{line}: not UTF-8 (byte 0x{data[error.start]:02x}); convert the file first"
        ) from None
    wrong = np.flatnonzero(found != len(columns))
    if len(wrong):
        raise DataError(
            f"{path}:{first_line + int(wrong[0])}: found {found[wrong[0]]} TAB-separated columns, "
            f"expected {len(columns)}: {', '.join(columns)}"
        )
    if b"\0" in data:
        line = first_line + int(np.searchsorted(ends, data.index(b"\0")))
        raise DataError(f"{path}:{line}: a NUL byte; this is not text")
    cells = text[:-1].replace("\n", "\t").split("\t")
    split = {
        name: np.array(cells[position :: len(columns)], dtype=object)
        for position, name in enumerate(columns)
    }
    return Block(path, first_line, split)
