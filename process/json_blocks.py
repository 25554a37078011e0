"""Large files with one JSON object a line: read once, in blocks of lines, parsed on all cores.

orjson parses. A line that it refuses (NaN, half a character, a Python dict) or whose long numbers
it would round is read as :mod:`process.json_lines` reads it, so both readers see the same objects
and the same errors.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

import numpy as np
import orjson

from legos.errors import DataError
from legos.files import LONGEST_LINE
from legos.progress import progress_bar
from process.bad_lines import BadLine, BadLines
from process.block_workers import BlockWorkers, Waiting
from process.json_lines import Row, parse_line, plain_dict, refuse_empty, refuse_missing
from process.opening import BAD_GZIP, damaged_gzip, decompressed

BLOCK = 1 << 20  # bytes; changes memory and speed, not results
_PIECE = 1 << 20
_FIRST_BLOCK = 1 << 16  # another kind of file is refused early
_LINE_END = ord("\n")
_EXACT = 18  # decimal digits of a whole number that orjson never rounds
_HIGH, _DIGITS = np.uint64(0xF0F0F0F0F0F0F0F0), np.uint64(0x3030303030303030)  # of eight bytes

Kind = Any
"""What the first lines of a file tell about all of them."""
Part = TypeVar("Part")


@dataclass
class Lines:
    """The lines of a block; iterating yields the objects and sets aside what is none.

    Attributes:
        path: of the file.
        first: number of the block's first line, from 1.
        content: whole lines.
        python_too: a line may also be a Python dict of plain values.
        read: how many lines were looked at.
        errors: lines that cannot be read, each with ``read`` at its time and what it is about.
        notes: lines that were read although they are odd, by what is odd.
    """

    path: Path
    first: int
    content: bytes
    python_too: bool = False
    read: int = 0
    errors: list[tuple[int, BadLine, str]] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)

    def __iter__(self) -> Iterator[Row]:
        long = lines_with_long_numbers(self.content)
        for number, text in enumerate(self.content.split(b"\n")):
            if not text or text.isspace():
                continue
            self.read += 1
            try:
                values = None if number in long else orjson.loads(text)
            except ValueError:
                values = plain_dict(text) if self.python_too else None
            if type(values) is dict:
                yield Row(self.path, self.first + number, values, text)
            elif (row := self.row(number, text)) is not None:
                yield row

    def row(self, number: int, text: bytes) -> Row | None:
        """A line as the reader of lines sees it; None, and an error, where it holds no object.

        Args:
            number: of the line in the block, from 0.
            text: its bytes.
        """
        line = self.first + number
        try:
            values = parse_line(self.path, line, text, self.python_too, self.notes)
        except BadLine as error:
            self.refuse(error)
            return None
        return Row(self.path, line, values, text)

    def refuse(self, error: BadLine, about: str = "") -> None:
        """Count the line just yielded as one that cannot be read; ``about``: an item, say."""
        self.errors.append((self.read, error, about))


def lines_with_long_numbers(content: bytes) -> frozenset[int]:
    """Which lines, from 0, hold more digits in a row than are exact in every parser."""
    letters = np.frombuffer(content, dtype=np.uint8)
    words = letters[: len(letters) // 8 * 8].view("<u8")
    # so many digits fill at least one of the words; ":;<=>?" look like digits here
    places = np.flatnonzero((words & _HIGH) == _DIGITS) * 8
    places = places[letters[np.minimum(places + 11, len(letters) - 1)] >> 4 == 3]
    if not len(places):
        return frozenset()
    around = places[:, None] + np.arange(-7, _EXACT + 1)
    digits = letters[np.clip(around, 0, len(letters) - 1)] - np.uint8(ord("0")) < 10
    digits &= (around >= 0) & (around < len(letters))
    before = np.cumprod(digits[:, 6::-1], axis=1).sum(axis=1)
    after = np.cumprod(digits[:, 7:], axis=1).sum(axis=1)
    places = places[(after >= 8) & (before + after > _EXACT)]
    if not len(places):
        return frozenset()
    ends = np.flatnonzero(letters == _LINE_END)
    return frozenset(np.searchsorted(ends, places).tolist())


Parse = Callable[[Lines, Kind], tuple[Part, Kind]]
"""Makes a part of the lines of a block, given what earlier blocks of the file told of its kind (at
first None), and says of which kind it is."""


def read_blocks(
    paths: Sequence[Path],
    purpose: str,
    parse: Parse[Part],
    bad: BadLines,
    *,
    python_too: bool = False,
    overlooked: Callable[[str], bool] | None = None,
    processes: int | None = None,
    block: int = BLOCK,
) -> Iterator[Part]:
    """The parts that ``parse`` makes of the blocks of all files, in order.

    Args:
        paths: ``.json.gz`` or plain ``.json`` files.
        purpose: shown at the progress bar.
        parse: a function of a module. It runs in this process until the kind of a file is known,
            then in others.
        bad: counts the lines, those left out and the odd ones.
        python_too: a line may also be a Python dict of plain values.
        overlooked: whether it is no fault that a line about something cannot be read.
        processes: that parse; None: as many as there are cores.
        block: bytes that are parsed at once.

    Raises:
        DataError: a file is missing, empty or cut short, or too many lines are bad. Names file and
            line.
    """
    processes = processes or len(os.sched_getaffinity(0))

    def counted(parsed: _Parsed[Part]) -> Part:
        parsed.count(bad, overlooked)
        return parsed.part

    with ExitStack() as stack:
        workers = BlockWorkers(stack, processes, block + _PIECE)
        for path in paths:
            blocks = partial(_blocks, path, python_too=python_too, size=block)
            before = bad.lines
            yield from _of_file(path, purpose, parse, blocks, workers, counted)
            if bad.lines == before:
                refuse_empty(path)


def _of_file(
    path: Path,
    purpose: str,
    parse: Parse[Part],
    blocks_of: Callable[[IO[bytes]], Iterator[Lines | DataError]],
    workers: BlockWorkers,
    counted: Callable[[_Parsed[Part]], Part],
) -> Iterator[Part]:
    refuse_missing(path)
    kind: Kind = None
    waiting: deque[Waiting[_Parsed[Part]]] = deque()
    damage = None
    with path.open("rb") as raw, progress_bar(purpose, path.stat().st_size, percent=True) as bar:
        for lines in blocks_of(raw):
            if isinstance(lines, DataError):
                damage = lines
            else:
                work = partial(_parse, parse, kind, path, lines.first, lines.python_too)
                if kind is None:
                    parsed = work(lines.content)
                    kind = parsed.kind
                    yield counted(parsed)
                else:
                    waiting.append(workers.submit(work, lines.content))
            if len(waiting) > workers.ahead:
                yield counted(workers.result(waiting.popleft()))
            bar.move(raw.tell())
        while waiting:
            yield counted(workers.result(waiting.popleft()))
    if damage is not None:  # what stood before it may have been worse
        raise damage


@dataclass(frozen=True)
class _Parsed(Generic[Part]):
    """What came of a block."""

    part: Part
    kind: Kind
    read: int
    errors: list[tuple[int, BadLine, str]]
    notes: Counter[str]

    def count(self, bad: BadLines, overlooked: Callable[[str], bool] | None) -> None:
        """Count the lines as if they were read one by one."""
        before = bad.lines
        for read, error, about in self.errors:
            if not (about and overlooked and overlooked(about)):
                bad.lines = before + read
                bad.add(error)
        bad.lines = before + self.read
        bad.notes.update(self.notes)


def _parse(
    parse: Parse[Part], kind: Kind, path: Path, first: int, python_too: bool, content: bytes
) -> _Parsed[Part]:
    lines = Lines(path, first, content, python_too)
    part, kind = parse(lines, kind)
    return _Parsed(part, kind, lines.read, lines.errors, lines.notes)


def _blocks(
    path: Path, raw: IO[bytes], *, python_too: bool, size: int
) -> Iterator[Lines | DataError]:
    """Whole lines of about ``size`` bytes together and, at last, what is wrong with the file."""
    first, parts, length = 1, list[bytes](), 0
    problem: Exception | None = None
    with decompressed(path, raw) as stream:
        while True:
            try:
                piece = stream.read1(min(_PIECE, size) if first > 1 else _FIRST_BLOCK)  # type: ignore[attr-defined]
            except (DataError, *BAD_GZIP) as error:
                problem, piece = error, b""
            parts.append(piece)
            length += len(piece)
            if length < (size if first > 1 else min(size, _FIRST_BLOCK)) and piece:
                continue
            content = b"".join(parts)
            end = content.rfind(b"\n") + 1 if piece or problem else len(content)
            if end:
                yield Lines(path, first, content[:end], python_too)
            ends = np.frombuffer(content, dtype=np.uint8, count=end) == _LINE_END
            first += int(np.count_nonzero(ends))  # faster than bytes.count
            parts, length = [content[end:]], len(content) - end
            if length > LONGEST_LINE:
                problem = DataError(f"{path}: a line of more than {LONGEST_LINE:,} bytes; no text")
            if problem or not piece:
                break
    if isinstance(problem, DataError):
        yield problem
    elif problem is not None:
        yield damaged_gzip(path, first - 1, problem)
