"""Streaming of (compressed) files with one JSON object a line; one line in memory at a time.

:mod:`process.json_blocks` reads large files faster.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

import orjson

from legos.data.texts import one_line
from legos.errors import DataError
from legos.progress import progress_bar
from process.bad_lines import BadLine, BadLines
from process.opening import BAD_GZIP, damaged_gzip, decompressed
from process.ties import line_hash

_LINES_A_TICK = 10_000
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_LARGEST = 2**63 - 1
_LONGEST = 40  # characters of a number
_PYTHON = re.compile(rb"[uU]?'[^']*'|\b(?:True|False|None)\b")  # strings whole, and words
_WORDS = {b"True": b"true", b"False": b"false", b"None": b"null"}
_SURROGATE = re.compile("[\ud800-\udfff]")


class Row(NamedTuple):
    """One object, where it stands, and the bytes it was read from."""

    path: Path
    line: int
    values: dict[str, Any]
    raw: bytes = b""

    @property
    def content(self) -> bytes:
        """8 bytes that depend on what the line says, not on where it stands."""
        return line_hash(self.raw)

    @property
    def at(self) -> str:
        """``file:line``, to begin an error message with."""
        return f"{self.path}:{self.line}"

    @property
    def keys(self) -> str:
        """What is there, for messages about what is not."""
        return ", ".join(sorted(map(str, self.values))) or "nothing"

    def bad(self, key: str, expected: str) -> BadLine:
        """The error of a value that cannot be read."""
        found = repr(self.values[key])
        shown = found if len(found) <= 60 else found[:57] + "..."
        return BadLine(
            self.at, f"{key!r} is not {expected}", f"{key!r} is {shown}, expected {expected}"
        )

    def id(self, key: str) -> str:
        """A required id; a number is taken as a string, 12.0 as 12.

        Raises:
            BadLine: missing, empty or of another type.
        """
        value = self.required(key)
        if type(value) is str and value and not value.isspace():
            return value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
            raise self.bad(key, "an id")
        return str(value)

    def text(self, key: str) -> str:
        """A text on one line without markup, of a list all parts; "" where there is none.

        Raises:
            BadLine: neither text nor number, nor a list of such.
        """
        value = self.values.get(key)
        if type(value) is str:
            return one_line(value)
        parts = value if isinstance(value, list) else [value]
        texts = []
        for part in parts:
            if part is None or part != part:  # NaN stands for nothing
                continue
            if isinstance(part, bool) or not isinstance(part, str | int | float):
                raise self.bad(key, "a string or a list of strings")
            texts.append(one_line(str(part)))
        return " ".join(filter(None, texts))

    def integer(self, key: str) -> int:
        """A required whole number, possibly written as a string or as 4.0.

        Raises:
            BadLine: missing or not a whole number.
        """
        self.required(key)
        value = self.number(key)
        if value is None or value != value or not float(value).is_integer():
            raise self.bad(key, "a whole number")
        return int(value)

    def number(self, key: str) -> int | float | None:
        """A number, possibly written as a string; None where there is none, NaN as it is.

        Raises:
            BadLine: not a number, or infinite.
        """
        value = self.values.get(key)
        if type(value) is int and -_LARGEST <= value <= _LARGEST:
            return value
        if isinstance(value, str):
            text = value.strip()
            if not text:
                return None
            if text.lower() == "nan":
                return math.nan
            if len(text) > _LONGEST or not _NUMBER.fullmatch(text):
                raise self.bad(key, "a number")
            value = int(text) if text.lstrip("+-").isdecimal() else float(text)
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise self.bad(key, "a number of 64 bits")
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) == math.inf:
            raise self.bad(key, "a number")
        return value

    def required(self, key: str) -> Any:
        """The value as it is.

        Raises:
            BadLine: there is none of this name.
        """
        if key not in self.values:
            raise BadLine(self.at, f"no {key!r}", f"no {key!r} here; found: {self.keys[:200]}")
        return self.values[key]


def read_json_lines(
    paths: Sequence[Path],
    purpose: str,
    *,
    python_too: bool = False,
    bad: BadLines | None = None,
) -> Iterator[Row]:
    """Yield the objects of the files, in order, under a progress bar that counts bytes.

    Args:
        paths: ``.json.gz`` or plain ``.json`` files.
        purpose: shown at the bar.
        python_too: a line may also be a Python dict of plain values (Amazon's metadata of 2014);
            it is read as data, nothing of it runs.
        bad: counts the lines, leaves out those that are not JSON objects, and replaces halves of
            characters (unpaired surrogates) by U+FFFD. Without it all of these are errors.

    Raises:
        DataError: a file is missing, empty or cut short; or a line is bad. Names file and line.
    """
    for path in paths:
        refuse_missing(path)
        with (
            path.open("rb") as raw,
            progress_bar(purpose, path.stat().st_size, percent=True) as bar,
        ):
            line = 0
            for line, text in _lines(path, raw):
                if line % _LINES_A_TICK == 0:
                    bar.move(raw.tell())
                if bad is not None:
                    bad.lines += 1
                try:
                    notes = None if bad is None else bad.notes
                    values = parse_line(path, line, text, python_too, notes)
                except BadLine as error:
                    if bad is None:
                        raise
                    bad.add(error)
                    continue
                yield Row(path, line, values, text)
            if line == 0:
                refuse_empty(path)


def refuse_missing(path: Path) -> None:
    """Raise DataError where there is no file."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")


def refuse_empty(path: Path) -> NoReturn:
    """Raise DataError for a file without lines."""
    raise DataError(f"{path}: the file is empty, expected one JSON object a line")


def _lines(path: Path, raw: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Numbered lines, blank ones left out."""
    line = 0
    try:
        with decompressed(path, raw) as stream:
            for line, text in enumerate(stream, start=1):
                if text.strip():
                    yield line, text
    except BAD_GZIP as error:
        raise damaged_gzip(path, line, error) from None


def parse_line(
    path: Path, line: int, text: bytes, python_too: bool, notes: Counter[str] | None
) -> dict[str, Any]:
    """The object of a line.

    Args:
        path, line: where it stands.
        text: its bytes.
        python_too: it may also be a Python dict of plain values.
        notes: counts lines with half a character; without it they are errors.

    Raises:
        BadLine: no object.
    """
    value: Any
    text = text.rstrip(b"\n")  # Python guesses an encoding from the last bytes
    try:
        value = json.loads(text)
    except UnicodeDecodeError as error:
        raise BadLine(f"{path}:{line}", "not UTF-8", f"not UTF-8 ({error.reason})") from None
    except RecursionError:
        raise BadLine(f"{path}:{line}", "not JSON", "nested too deeply") from None
    except ValueError as error:
        if not python_too:
            raise BadLine(
                f"{path}:{line}",
                "not JSON",
                f"not JSON ({error}); expected one JSON object a line",
            ) from None
        value = _parse_python(f"{path}:{line}", text)
    else:
        if isinstance(value, dict) and b"\\ud" not in text and b"\\uD" not in text:
            return value
    at = f"{path}:{line}"  # not written before: most lines need none
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise BadLine(at, "not a JSON object", f"a JSON {kind}, expected an object")
    return _with_whole_characters(at, value, notes)


def _with_whole_characters(
    at: str, value: dict[str, Any], notes: Counter[str] | None
) -> dict[str, Any]:
    """Replace what JSON can write and UTF-8 cannot: a surrogate without its other half."""
    dumped = json.dumps(value, ensure_ascii=False, default=str)
    if not _SURROGATE.search(dumped):
        return value
    if notes is None:
        raise BadLine(
            at, "half a character", "holds half a character (an unpaired surrogate such as \\ud83d)"
        )
    notes["lines with half a character, read with U+FFFD in its place"] += 1
    whole: dict[str, Any] = json.loads(_SURROGATE.sub("\ufffd", dumped))
    return whole


def plain_dict(text: bytes) -> Any:
    """A Python dict whose strings hold neither quotes nor backslashes, read by the JSON parser.

    Exact where it answers: strings are found from the left, whole, and all else must be JSON. It
    takes a fraction of the time of ``ast.literal_eval``, which reads what is left.

    Args:
        text: of a line.

    Returns:
        the value; None where this way cannot tell.
    """
    if b"\\" in text or b'"' in text:
        return None
    try:
        return orjson.loads(_PYTHON.sub(_as_json, text))
    except ValueError:
        return None


def _as_json(found: re.Match[bytes]) -> bytes:
    word = found[0]
    return _WORDS.get(word) or b'"%s"' % word[word.index(b"'") + 1 : -1]


def _parse_python(at: str, text: bytes) -> Any:
    try:
        return ast.literal_eval(text.decode("utf-8").strip())
    except UnicodeDecodeError as error:
        raise BadLine(at, "not UTF-8", f"not UTF-8 ({error.reason})") from None
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        reason = str(error).split("\n")[0].split(": <ast.")[0][:80]  # no address in memory
        raise BadLine(
            at,
            "neither JSON nor a Python dict",
            f"neither JSON nor a Python dict of plain values ({reason})",
        ) from None
