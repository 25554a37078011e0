"""Streaming of (compressed) files with one JSON object a line; one line in memory at a time."""

from __future__ import annotations

import ast
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from legos.errors import DataError
from process.progress import progress_bar
from process.ties import line_hash

_LINES_A_TICK = 10_000


@dataclass(frozen=True)
class Row:
    """One object, where it stands, and the bytes it was read from."""

    path: Path
    line: int
    values: dict[str, Any]
    raw: bytes = b""

    @property
    def content(self) -> int:
        """64 bits that depend on what the line says, not on where it stands."""
        return line_hash(self.raw)

    def text(self, key: str) -> str:
        """A required string (numbers are taken as strings).

        Raises:
            DataError: missing or of another type.
        """
        value = self._required(key)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise DataError(f"{self.path}:{self.line}: {key!r} is {value!r}, expected a string")
        return str(value)

    def integer(self, key: str) -> int:
        """A required whole number, possibly written as a string.

        Raises:
            DataError: missing or not a number.
        """
        value = self._required(key)
        try:
            if isinstance(value, bool | float):
                raise ValueError
            return int(value)
        except (ValueError, TypeError):
            raise DataError(
                f"{self.path}:{self.line}: {key!r} is {value!r}, expected a whole number"
            ) from None

    def _required(self, key: str) -> Any:
        if key not in self.values:
            found = ", ".join(sorted(self.values)) or "nothing"
            raise DataError(f"{self.path}:{self.line}: no {key!r} here; found: {found}")
        return self.values[key]


def read_json_lines(
    paths: Sequence[Path], purpose: str, *, python_too: bool = False
) -> Iterator[Row]:
    """Yield the objects of the files, in order, under a progress bar that counts bytes.

    Args:
        paths: ``.json.gz`` or plain ``.json`` files.
        purpose: shown at the bar.
        python_too: a line may also be a Python dict of plain values (Amazon's metadata of 2014);
            it is read as data, nothing of it runs.

    Raises:
        DataError: a file is missing or empty, cut short, not UTF-8, or a line is not a JSON object;
            names file and line.
    """
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        with path.open("rb") as raw, progress_bar(purpose, path.stat().st_size) as move:
            line = 0
            for line, text in _lines(path, raw):
                if line % _LINES_A_TICK == 0:
                    move(raw.tell())
                yield Row(path, line, _parse(path, line, text, python_too=python_too), text)
            if line == 0:
                raise DataError(f"{path}: the file is empty, expected one JSON object a line")


def _lines(path: Path, raw: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Numbered lines, blank ones left out."""
    stream: IO[bytes] = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw  # type: ignore[assignment]
    line = 0
    try:
        for line, text in enumerate(stream, start=1):
            if text.strip():
                yield line, text
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path}:{line + 1}: the gzip file is damaged or cut short after line {line} "
            f"({error}); fetch it again"
        ) from None


def _parse(path: Path, line: int, text: bytes, *, python_too: bool) -> dict[str, Any]:
    value: Any
    try:
        value = json.loads(text)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{line}: not UTF-8 ({error.reason})") from None
    except RecursionError:
        raise DataError(f"{path}:{line}: nested too deeply") from None
    except ValueError as error:
        if not python_too:
            raise DataError(f"{path}:{line}: not JSON ({error})") from None
        value = _parse_python(path, line, text)
    if not isinstance(value, dict):
        raise DataError(f"{path}:{line}: a JSON {type(value).__name__}, expected an object")
    return value


def _parse_python(path: Path, line: int, text: bytes) -> Any:
    try:
        return ast.literal_eval(text.decode("utf-8").strip())
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{line}: not UTF-8 ({error.reason})") from None
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        reason = str(error).split("\n")[0][:80]
        raise DataError(
            f"{path}:{line}: neither JSON nor a Python dict of plain values ({reason})"
        ) from None
