"""Large files with one JSON object a line: read once, in blocks of lines, parsed on all cores.

orjson parses. A line that it refuses (NaN, half a character, a Python dict) or whose long numbers
it would round is read as :mod:`process.json_lines` reads it, so both readers see the same objects
and the same errors.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Thread
from typing import IO, Any, Generic, TypeVar

import numpy as np
import orjson

from legos.errors import DataError
from legos.files import LONGEST_LINE
from legos.progress import progress_bar
from process.bad_lines import BadLine, BadLines
from process.json_lines import Row, parse_line, refuse_empty, refuse_missing
from process.opening import BAD_GZIP, damaged_gzip, decompressed

BLOCK = 1 << 22  # bytes; changes memory and speed, not results
_PIECE = 1 << 20
_FIRST_BLOCK = 1 << 16  # another kind of file is refused early
_LOOK_AFTER_PARENT = 1.0  # seconds
_EXACT = 18  # decimal digits of a whole number that orjson never rounds

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
        long = _lines_with_long_numbers(self.content)
        for number, text in enumerate(self.content.split(b"\n")):
            if not text or text.isspace():
                continue
            self.read += 1
            try:
                values = None if number in long else orjson.loads(text)
            except ValueError:
                values = None
            line = self.first + number
            if type(values) is not dict:
                try:
                    values = parse_line(self.path, line, text, self.python_too, self.notes)
                except BadLine as error:
                    self.refuse(error)
                    continue
            yield Row(self.path, line, values, text)

    def refuse(self, error: BadLine, about: str = "") -> None:
        """Count the line just yielded as one that cannot be read; ``about``: an item, say."""
        self.errors.append((self.read, error, about))


def _lines_with_long_numbers(content: bytes) -> frozenset[int]:
    """Which lines, from 0, hold more digits in a row than are exact in every parser."""
    letters = np.frombuffer(content, dtype=np.uint8)
    run = (letters - np.uint8(ord("0"))) < 10  # of digits; wraps below "0"
    length = 1
    while length <= _EXACT:  # run[i]: `length` digits begin at i
        step = min(length, _EXACT + 1 - length)
        run = run[:-step] & run[step:]
        length += step
    places = np.flatnonzero(run)
    if not len(places):
        return frozenset()
    ends = np.flatnonzero(letters == ord("\n"))
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
        workers = _Workers(stack, processes)
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
    workers: _Workers,
    counted: Callable[[_Parsed[Part]], Part],
) -> Iterator[Part]:
    refuse_missing(path)
    kind: Kind = None
    waiting: deque[Future[_Parsed[Part]]] = deque()
    damage = None
    with path.open("rb") as raw, progress_bar(purpose, path.stat().st_size, percent=True) as bar:
        for lines in blocks_of(raw):
            if isinstance(lines, DataError):
                damage = lines
            elif kind is None:
                parsed = _parse(parse, lines, None)
                kind = parsed.kind
                yield counted(parsed)
            else:
                waiting.append(workers.submit(parse, lines, kind))
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


def _parse(parse: Parse[Part], lines: Lines, kind: Kind) -> _Parsed[Part]:
    part, kind = parse(lines, kind)
    return _Parsed(part, kind, lines.read, lines.errors, lines.notes)


def _follow_parent(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end when it is gone, even by a kill."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_AFTER_PARENT)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


class _Workers:
    """Processes that parse, started for the first block that they get.

    They are forked, so no script needs a guard around its main part; torch is not used in them.
    """

    def __init__(self, stack: ExitStack, processes: int) -> None:
        self.ahead = 2 * processes if processes > 1 else 0
        self._stack, self._processes = stack, processes
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, parse: Parse[Part], lines: Lines, kind: Kind) -> Future[_Parsed[Part]]:
        if self._processes == 1:
            done: Future[_Parsed[Part]] = Future()
            done.set_result(_parse(parse, lines, kind))
            return done
        if self._pool is None:
            context = multiprocessing.get_context("fork")
            self._pool = ProcessPoolExecutor(
                self._processes, context, _follow_parent, (os.getpid(),)
            )
            self._stack.callback(self._pool.shutdown, cancel_futures=True)
        return self._pool.submit(_parse, parse, lines, kind)

    @staticmethod
    def result(parsed: Future[_Parsed[Part]]) -> _Parsed[Part]:
        try:
            return parsed.result()
        except BrokenProcessPool:
            raise DataError(
                "a process that reads was ended from outside, as happens when memory runs out; run "
                "the same command again"
            ) from None


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
            first += content.count(b"\n", 0, end)
            parts, length = [content[end:]], len(content) - end
            if length > LONGEST_LINE:
                problem = DataError(f"{path}: a line of more than {LONGEST_LINE:,} bytes; no text")
            if problem or not piece:
                break
    if isinstance(problem, DataError):
        yield problem
    elif problem is not None:
        yield damaged_gzip(path, first - 1, problem)
