"""CSV and its kin: separators, encodings, quoted line feeds, ragged lines."""

from __future__ import annotations

import csv
import io
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from legos.errors import DataError
from legos.files import LONGEST_LINE
from legos.progress import progress_bar
from process.bad_lines import BadLine, BadLines
from process.opening import opened

if TYPE_CHECKING:
    from process.table.sources import Block

SEPARATORS = {"\t": "TAB", ";": ";", ",": ",", "|": "|"}
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_EXCEL = re.compile(r'"?sep=(.)"?', re.IGNORECASE)  # first line of Excel's own files
_ENDS = re.compile(r"\r\n|\r|\n")
_SHOWN = 60


class Delimited:
    """A text file with a header and a separator.

    Args:
        path: of the file, compressed or not.
        sample: its first bytes.
        encoding: of its characters; a byte-order mark counts more.
        quotes: whether cells may be quoted.

    Attributes:
        delimiter: the separator that its header has most of.

    Raises:
        DataError: not a text, no header, or a column occurs twice.
    """

    zoned: frozenset[str] = frozenset()
    digest = ""
    further: tuple[Path, ...] = ()

    def __init__(self, path: Path, sample: bytes, *, encoding: str, quotes: bool) -> None:
        self.path: Path | None = path
        self._file, self.label, self._quotes = path, str(path), quotes
        self._encoding = _encoding(sample, encoding)
        if b"\0" in sample and not self._encoding.startswith("utf-16"):
            raise DataError(
                f"{path}: holds NUL bytes, so it is no text (or UTF-16 without a mark: --encoding "
                "utf-16-le); expected CSV, TSV, JSON lines or Parquet"
            )
        first, excel = self._first_line()
        self.delimiter = excel or _separator(first)
        self.commas = self.delimiter == ";"
        self._skipped = 1 if excel else 0
        header = self._guarded(lambda reader: next(reader, []))
        self.names = self._checked([name.strip() for name in header])

    def at(self, line: int) -> str:
        """``file:line``."""
        return f"{self._file}:{line}"

    def blocks(self, names: Sequence[str], bad: BadLines) -> Iterator[Block]:
        """Rows with some of the columns; those with another number of cells are bad lines."""
        from process.table.sources import ROWS_A_BLOCK, Block

        width, places = len(self.names), {name: self.names.index(name) for name in names}
        with self._open() as (text, raw), self._bar() as bar:
            reader = self._reader(text)
            while not next(reader, []):  # the header
                pass
            while True:
                before = reader.line_num
                rows = self._next(reader, ROWS_A_BLOCK)
                if not rows:
                    break
                bar.move(raw.tell())
                lines = _line_numbers(rows, before + self._skipped, reader.line_num - before)
                rows, lines = self._even(rows, lines, width, bad)
                if rows:
                    columns = list(zip(*rows, strict=True))
                    yield Block(
                        {name: np.array(columns[place], object) for name, place in places.items()},
                        np.array(lines, dtype=np.int64),
                    )

    def _even(
        self, rows: list[list[str]], lines: Sequence[int], width: int, bad: BadLines
    ) -> tuple[list[list[str]], Sequence[int]]:
        """The rows of the header's width; further cells that are empty are no cells."""
        bad.lines += sum(map(bool, rows))
        if all(len(row) == width for row in rows):
            return rows, lines
        kept, numbers = [], []
        for row, line in zip(rows, lines, strict=True):
            while len(row) > width and not row[-1]:
                row.pop()
            if len(row) == width:
                kept.append(row)
                numbers.append(line)
            elif row:
                bad.add(
                    BadLine(
                        self.at(line),
                        "another number of columns than the header",
                        f"{len(row)} columns, the header has {width} ({self._separated()}): "
                        f"{self.delimiter.join(row)[:_SHOWN]!r}",
                    )
                )
        return kept, numbers

    def _separated(self) -> str:
        return f"separated by {SEPARATORS.get(self.delimiter, self.delimiter)}"

    def _checked(self, names: list[str]) -> list[str]:
        if not any(names):
            raise DataError(f"{self._file}: the first line is empty, expected the names of columns")
        counts = Counter(name for name in names if name)
        for name, count in counts.items():
            if count > 1:
                where = [place for place, other in enumerate(names, start=1) if other == name]
                raise DataError(
                    f"{self._file}:1: column {name!r} is there {count} times (columns "
                    f"{', '.join(map(str, where))}); rename one"
                )
        while names and not names[-1]:
            names.pop()  # a separator behind the last name
        unnamed = names.count("")
        if unnamed > 1:
            raise DataError(f"{self._file}:1: {unnamed} columns have no name; name them")
        return [name or "(unnamed)" for name in names]

    def _first_line(self) -> tuple[str, str]:
        """The header's line, and the separator that Excel named in a line before it."""
        with self._open() as (text, _):
            line = text.readline()
            excel = _EXCEL.fullmatch(line.strip())
            return (text.readline(), excel[1]) if excel else (line, "")

    @contextmanager
    def _open(self) -> Iterator[tuple[io.TextIOWrapper, Any]]:
        with opened(self._file) as (stream, raw):
            text = io.TextIOWrapper(stream, self._encoding, newline="")
            for _ in range(getattr(self, "_skipped", 0)):
                text.readline()
            try:
                yield text, raw
            except UnicodeDecodeError:
                raise self._undecodable() from None
            finally:
                text.detach()

    def _bar(self) -> Any:
        size = self._file.stat().st_size
        return progress_bar(f"reading {self._file.name}", size, percent=True)

    def _reader(self, text: io.TextIOWrapper) -> Any:
        csv.field_size_limit(LONGEST_LINE)
        return csv.reader(
            text,
            delimiter=self.delimiter,
            strict=True,
            quoting=csv.QUOTE_MINIMAL if self._quotes else csv.QUOTE_NONE,
        )

    def _next(self, reader: Any, count: int) -> list[list[str]]:
        try:
            return list(islice(reader, count))
        except csv.Error as error:
            raise self._malformed(str(error)) from None

    def _guarded(self, read: Callable[[Any], list[str]]) -> list[str]:
        with self._open() as (text, _):
            try:
                return read(self._reader(text))
            except csv.Error as error:
                raise self._malformed(str(error)) from None

    def _malformed(self, reason: str) -> DataError:
        """The error of a row that cannot be read, found again row by row."""
        line = 0
        with self._open() as (text, _):
            reader = self._reader(text)
            try:
                for _row in reader:
                    line = reader.line_num
            except csv.Error as error:
                reason = str(error)
        where = line + 1 + self._skipped
        if "unexpected end" in reason:
            reason = "a quoted cell has no closing quote"
        return DataError(
            f"{self._file}:{where}: the row that begins here cannot be read ({reason}); "
            "--no-quotes takes quotes as characters"
        )

    def _undecodable(self) -> DataError:
        """The error of a byte that is no character, found again line by line."""
        with opened(self._file) as (stream, _):
            for number, line in enumerate(stream, start=1):
                try:
                    line.decode(self._encoding if number == 1 else _without_mark(self._encoding))
                except UnicodeDecodeError as error:
                    return DataError(
                        f"{self._file}:{number}: not {self._encoding.removesuffix('-sig').upper()} "
                        f"(byte 0x{line[error.start]:02x}); --encoding names another one: Excel "
                        "for Windows writes cp1252 in Western Europe, gb18030 in China"
                    )
        return DataError(f"{self._file}: not {self._encoding}; --encoding names another one")


def _without_mark(encoding: str) -> str:
    return encoding.removesuffix("-sig")


def _encoding(sample: bytes, asked: str) -> str:
    if sample.startswith(BOM_UTF8):
        return "utf-8-sig"
    if sample.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return "utf-16"
    try:
        "".encode(asked)
    except LookupError:
        raise DataError(
            f"--encoding {asked}: no such encoding; for example utf-8, cp1252, gb18030, utf-16"
        ) from None
    return asked


def _separator(header: str) -> str:
    outside = _QUOTED.sub("", header)
    return max(SEPARATORS, key=outside.count) if any(s in outside for s in SEPARATORS) else ","


def _line_numbers(rows: list[list[str]], before: int, spanned: int) -> Sequence[int]:
    """The first line of each row; a quoted cell may hold line feeds."""
    if spanned == len(rows):
        return range(before + 1, before + 1 + spanned)
    numbers, line = [], before + 1
    for row in rows:
        numbers.append(line)
        line += 1 + sum(len(_ENDS.findall(cell)) for cell in row)
    return numbers
