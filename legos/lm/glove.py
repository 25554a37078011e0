"""Word vectors as text: a word and its numbers a line, as GloVe, fastText and word2vec write them.

Words may hold spaces (some of GloVe's 840B do), so how many numbers a line has is not plain from
one line. It comes from the header line of word2vec, else from the first line, and every other line
has to agree. What could be read in two ways is refused.
"""

from __future__ import annotations

import gzip
import math
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from legos.errors import DataError
from legos.files import BoundedGzip

_FORMATS = {  # how files of another kind begin
    b"PK\x03\x04": "a zip archive; unpack it first",
    b"\x1f\x8b": "gzipped; give it a name that ends with .gz",
    b"BZ": "a bzip2 archive; unpack it first",
    b"\xff\xfe": "UTF-16; convert it to UTF-8 first",
    b"\xfe\xff": "UTF-16; convert it to UTF-8 first",
}
_SHOWN = 40  # characters of a line that an error shows


@dataclass
class WordVectors:
    """Words and their vectors.

    Attributes:
        words: in the order of the file, each once.
        numbers: of all words, one after the other, float32.
        width: numbers a word.
        repeated: lines left out because their word had a vector already.
    """

    words: dict[str, None] = field(default_factory=dict)
    numbers: array[float] = field(default_factory=lambda: array("f"))
    width: int = 0
    repeated: int = 0


def read_word_vectors(path: Path) -> WordVectors:
    """Read a file, gzipped if its name ends with ``.gz``.

    Raises:
        DataError: the file is missing, empty, not UTF-8, of another format, has fewer or more
            lines than its header says, or a line whose columns do not fit or cannot be told apart;
            the message names the line.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file of word vectors")
    found = WordVectors()
    stated: int | None = None  # lines, by the header
    unsure: str | None = None  # a word with spaces that the width was taken from
    lines = 0
    for number, line in enumerate(_lines(path), start=1):
        place = f"{path}:{number}"
        parts = line.split(" ")
        if number == 1 and len(parts) == 2 and all(map(_is_count, parts)):
            stated, found.width = int(parts[0]), int(parts[1])
            continue
        if not found.width:
            found.width = _width(parts, place)
            unsure = " ".join(parts[: -found.width]) if len(parts) > found.width + 1 else None
        elif len(parts) == found.width + 1:
            unsure = None
        word, numbers = _word_and_numbers(line, parts, found.width, place, stated is not None)
        lines += 1
        if word in found.words:
            found.repeated += 1
            continue
        found.words[word] = None
        found.numbers.extend(numbers)
    if stated is not None and stated not in (lines, len(found.words)):
        raise DataError(
            f"{path}:1: the header says {stated:,} words of {found.width} numbers, {lines:,} lines "
            "follow; is the file whole? remove the header if it is another file's"
        )
    if not lines:
        raise DataError(f"{path}: empty, expected a word and its numbers on every line")
    if unsure is not None:
        raise DataError(
            f"{path}:1: a word with spaces ({unsure!r}) and {found.width} numbers, or a shorter "
            "word and more? no other line tells; put a line with a plain word first"
        )
    return found


def _width(parts: list[str], place: str) -> int:
    """Numbers of the first line: all at its end, but for one that must be the word."""
    count = 0
    for part in reversed(parts[1:]):
        if not _looks_like_a_number(part):
            break
        count += 1
    if not count:
        raise DataError(f"{place}: {_why_no_numbers(parts)}")
    return count


def _word_and_numbers(
    line: str, parts: list[str], width: int, place: str, by_header: bool
) -> tuple[str, array[float]]:
    surplus = parts[1:-width]
    if len(parts) <= width or any(map(_looks_like_a_number, surplus)):
        wanted = f"{width} (by the header in line 1)" if by_header else f"{width}, as in line 1"
        reason = (
            f"; a word with spaces ({' '.join(parts[:-width])!r}) or a number too many?"
            if len(parts) > width
            else ""
        )
        raise DataError(
            f"{place}: {len(parts) - 1} numbers after {_shown(parts[0])}, expected {wanted}{reason}"
        )
    word = " ".join(parts[:-width])
    if not word or "" in parts[:-width]:
        raise DataError(f"{place}: no word, or two spaces in a row, before {_shown(parts[-width])}")
    rest = line[len(word) + 1 :]
    if "\t" in word or not (rest.isascii() and rest.isprintable()) or "_" in rest:
        raise DataError(
            f"{place}: {_shown(line)} has TABs or other signs between or in its numbers; expected "
            "a word and numbers such as -0.25 or 1e-3, separated by single spaces"
        )
    try:
        numbers = array("f", map(float, parts[-width:]))
    except ValueError as error:
        raise DataError(f"{place}: {error}, expected {width} numbers after {word!r}") from None
    if not math.isfinite(sum(numbers)):
        raise DataError(f"{place}: a number of {word!r} is not finite in 32 bits")
    return word, numbers


def _why_no_numbers(parts: list[str]) -> str:
    if any("\t" in part for part in parts):
        return (
            f"{_shown(parts[0])}: columns are separated by TABs; expected a word and its numbers, "
            "separated by single spaces"
        )
    return (
        f"0 numbers after {_shown(' '.join(parts))}; expected a word and its numbers, separated by "
        "single spaces"
    )


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _looks_like_a_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def _lines(path: Path) -> Iterator[str]:
    """Lines without their ends and without spaces there; blank ones at the end are left out."""
    number, blank, counts = 0, 0, False
    try:
        with path.open("rb") as opened:
            file = BoundedGzip(path, opened) if path.suffix == ".gz" else opened
            for number, raw in enumerate(file, start=1):
                if number == 1:
                    _refuse_formats(path, raw)
                    counts = all(part.isdigit() for part in raw.split())
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip(" \r\n")
                if not line:
                    blank = blank or number
                    continue
                if blank:
                    raise DataError(f"{path}:{blank}: a blank line; expected a word and numbers")
                yield line
    except UnicodeDecodeError as error:
        hint = "; is it word2vec's binary form?" if counts and number == 2 else ""
        raise DataError(f"{path}:{number}: not UTF-8 ({error.reason}){hint}") from None
    except EOFError:
        raise DataError(f"{path}: the file is cut short after line {number}") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: not a whole gzip file ({error})") from None


def _refuse_formats(path: Path, raw: bytes) -> None:
    for start, what in _FORMATS.items():
        if raw.startswith(start) and (start != b"BZ" or b"\0" in raw[:64]):
            raise DataError(f"{path}:1: {what}")
