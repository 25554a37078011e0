"""Tables of rows as somebody has them: CSV, TSV, JSON lines, Parquet, DataFrames.

A file is what its first bytes say, whatever it is called. All forms give the same blocks of rows,
each with the number of its line, so that nothing behind this module knows of forms.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from legos.errors import DataError
from legos.progress import progress_bar
from process.bad_lines import BadLines
from process.json_lines import read_json_lines
from process.opening import opened
from process.table.delimited import Delimited
from process.tsv import what_is_there

ROWS_A_BLOCK = 1 << 16
_SAMPLE = 1 << 16
_OTHERS = {
    b"PK\x03\x04": "an Excel workbook or a zip file; save the sheet as CSV (UTF-8), or unpack it",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the sheet as CSV (UTF-8)",
    b"ARROW1": "an Arrow file; write Parquet",
    b"SQLite": "a database; export a table as CSV",
    b"%PDF": "a PDF",
    b"BZh": "a bzip2 file; unpack it, or use gzip or zstd",
    b"\xfd7zXZ": "an xz file; unpack it, or use gzip or zstd",
}


@dataclass(frozen=True)
class Block:
    """Some consecutive rows of a source.

    Attributes:
        columns: per name ``(n,)`` values as the form has them: str with "" for nothing, numbers,
            datetime64, or objects with None for nothing.
        lines: ``(n,)`` int64, counted from 1.
    """

    columns: dict[str, np.ndarray]
    lines: np.ndarray

    def __len__(self) -> int:
        return len(self.lines)


class Source(Protocol):
    """Rows with named columns.

    Attributes:
        label: what errors call it.
        names: of the columns, in order.
        path: of the file, None where there is none.
        commas: whether its separator says that a comma is no separator but a decimal mark.
        zoned: columns of moments that have a time zone.
        digest: a hash of the content where there is no file, else "".
        further: other files that the rows are made of.
    """

    label: str
    names: list[str]
    path: Path | None
    commas: bool
    zoned: frozenset[str]
    digest: str
    further: tuple[Path, ...]

    def at(self, line: int) -> str:
        """A place in it, to begin an error message with."""

    def blocks(self, names: Sequence[str], bad: BadLines) -> Iterator[Block]:
        """Its rows with some of the columns.

        Raises:
            DataError: it cannot be read; names the line.
        """


def open_source(given: Path | pd.DataFrame, what: str, *, encoding: str, quotes: bool) -> Source:
    """Recognise what is given.

    Args:
        given: a file or a DataFrame.
        what: it holds: items, events, users.
        encoding: of text files.
        quotes: whether CSV has quoted cells.

    Raises:
        DataError: no such file, an empty one, or one of another kind.
    """
    if isinstance(given, pd.DataFrame):
        return _Frames.of_frame(given, f"{what} (DataFrame)")
    path = Path(given)
    if path.is_dir():
        raise DataError(f"--{what} {path}: a folder, expected a file{what_is_there(path)}")
    if not path.is_file():
        raise DataError(f"--{what} {path}: no such file{what_is_there(path.parent)}")
    with opened(path) as (stream, _):
        sample = stream.read(_SAMPLE)
    if not sample.strip():
        raise DataError(f"{path}: the file is empty")
    if sample.startswith(b"PAR1"):
        return _Frames.of_parquet(path)
    for magic, kind in _OTHERS.items():
        if sample.startswith(magic):
            raise DataError(f"{path}: {kind}")
    begin = sample.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if begin == b"{":
        return _JsonLines(path)
    if begin == b"[":
        raise DataError(
            f"{path}: a JSON array; expected one JSON object a line (pandas: "
            "to_json(orient='records', lines=True))"
        )
    if begin == b"<":
        raise DataError(f"{path}: a web page or XML, expected CSV, TSV, JSON lines or Parquet")
    return Delimited(path, sample, encoding=encoding, quotes=quotes)


class _JsonLines:
    """One JSON object a line."""

    commas = False
    digest = ""
    zoned: frozenset[str] = frozenset()
    further: tuple[Path, ...] = ()

    def __init__(self, path: Path) -> None:
        self.path: Path | None = path
        self.label = str(path)
        self._path = path
        found: dict[str, None] = {}
        rows = read_json_lines([path], f"looking at {path.name}", bad=BadLines(max_share=1))
        for row in rows:  # all of them: a column may begin anywhere
            if not row.values.keys() <= found.keys():
                found |= dict.fromkeys(row.values)
        self.names = list(found)

    def at(self, line: int) -> str:
        return f"{self._path}:{line}"

    def blocks(self, names: Sequence[str], bad: BadLines) -> Iterator[Block]:
        rows = iter(read_json_lines([self._path], f"reading {self._path.name}", bad=bad))
        while part := list(islice(rows, ROWS_A_BLOCK)):
            columns = {
                name: np.fromiter((row.values.get(name) for row in part), object, len(part))
                for name in names
            }
            yield Block(columns, np.fromiter((row.line for row in part), np.int64, len(part)))


class _Frames:
    """Parquet files and DataFrames, in Arrow's columns."""

    commas = False
    further: tuple[Path, ...] = ()

    def __init__(self, table: Any, label: str, path: Path | None) -> None:
        import pyarrow as pa

        schema = table.schema_arrow if path else table.schema
        self.names = list(schema.names)
        twice = [name for name in self.names if self.names.count(name) > 1]
        if twice:
            raise DataError(f"{label}: column {twice[0]!r} occurs twice")
        self.zoned = frozenset(
            field.name for field in schema if pa.types.is_timestamp(field.type) and field.type.tz
        )
        self.label, self.path, self._table = label, path, table
        self.digest = "" if path else _hash(table)

    @classmethod
    def of_parquet(cls, path: Path) -> _Frames:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with opened(path) as (stream, raw):
            file: Any = str(path) if stream is raw else pa.BufferReader(stream.read())
        try:
            return cls(pq.ParquetFile(file), str(path), path)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: a damaged Parquet file ({error}); fetch it again") from None

    @classmethod
    def of_frame(cls, frame: pd.DataFrame, label: str) -> _Frames:
        import pyarrow as pa

        named = [name for name in frame.index.names if name is not None and name not in frame]
        if named:
            frame = frame.reset_index(named)
        columns = [str(name) for name in frame.columns]
        if not len(frame):
            raise DataError(f"{label}: it has no rows")
        twice = [name for name in columns if columns.count(name) > 1]
        if twice:
            raise DataError(f"{label}: column {twice[0]!r} occurs twice")
        arrays = [_as_arrow(frame.iloc[:, place], label) for place in range(len(columns))]
        return cls(pa.table(dict(zip(columns, arrays, strict=True))), label, None)

    def at(self, line: int) -> str:
        return f"{self.label}: row {line}"

    def blocks(self, names: Sequence[str], bad: BadLines) -> Iterator[Block]:
        import pyarrow as pa

        line = 1
        try:
            for batch in self._batches(list(names)):
                if not len(batch):
                    continue
                columns = {name: _as_numpy(batch.column(name)) for name in names}
                bad.lines += len(batch)
                yield Block(columns, np.arange(line, line + len(batch)))
                line += len(batch)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.label}: damaged after row {line - 1} ({error})") from None
        if line == 1:
            raise DataError(f"{self.label}: it has no rows")

    def _batches(self, names: list[str]) -> Iterator[Any]:
        if self.path is None:
            yield from self._table.select(names).to_batches(max_chunksize=ROWS_A_BLOCK)
            return
        total = self._table.metadata.num_rows
        with progress_bar(f"reading {self.path.name}", total) as bar:
            for batch in self._table.iter_batches(ROWS_A_BLOCK, columns=names):
                yield batch
                bar.advance(len(batch))


def _hash(table: Any) -> str:
    """SHA-256 of a table as Arrow writes it."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return hashlib.sha256(sink.getvalue()).hexdigest()


def _as_arrow(column: pd.Series[Any], label: str) -> Any:
    """A column in Arrow; where its values are of several kinds, each in its own writing."""
    import pyarrow as pa

    if isinstance(column.dtype, pd.PeriodDtype):
        column = column.dt.to_timestamp()
    try:
        return pa.array(column, from_pandas=True)
    except pa.ArrowException:
        return pa.array([None if _is_nothing(x) else str(x) for x in column.tolist()])
    except UnicodeEncodeError as error:
        raise DataError(
            f"{label}: column {column.name!r} holds half a character (an unpaired surrogate) in "
            f"{error.object!r}"
        ) from None


def _is_nothing(value: Any) -> bool:
    return value is None or value is pd.NA or value != value


def _as_numpy(column: Any) -> np.ndarray:
    """``(n,)``: whole numbers with gaps as objects, since float64 would round long ids."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        try:
            column, kind = column.cast(pa.large_string()), pa.large_string()
        except pa.ArrowInvalid:  # an image, say
            return np.fromiter(column.to_pylist(), object, len(column))
    nested = pa.types.is_nested(kind) or pa.types.is_decimal(kind)
    if nested or pa.types.is_time(kind) or pa.types.is_duration(kind):
        return np.fromiter(column.to_pylist(), object, len(column))
    if column.null_count and (pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        return np.fromiter(column.to_pylist(), object, len(column))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts: np.ndarray = column.to_pandas().to_numpy(dtype=object, na_value=None)
        return texts
    values: np.ndarray = column.to_numpy(zero_copy_only=False)
    return values
