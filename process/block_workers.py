"""Processes that work on blocks of bytes.

Blocks, and what comes of them, pass through memory that all processes share: through pipes that
takes 3 µs of CPU for a line of a review, nearly as much as parsing it.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from threading import Thread
from typing import Any, Generic, NamedTuple, TypeVar

from legos.errors import DataError

_LOOK_AFTER_PARENT = 1.0  # seconds

Found = TypeVar("Found")
Work = Callable[[bytes], Found]

_slots: list[mmap.mmap] = []  # in a worker: the memory that it shares with its parent


class Waiting(NamedTuple, Generic[Found]):
    """Work that was given to a worker, or its result where there are no workers."""

    done: Future[Any] | Found
    slot: int = -1


class BlockWorkers:
    """Processes that are started for the first block that they get.

    They are forked, so no script needs a guard around its main part; torch is not used in them.

    Args:
        stack: ends them.
        processes: how many; one works here.
        size: bytes of most blocks; larger ones take longer.
    """

    def __init__(self, stack: ExitStack, processes: int, size: int) -> None:
        self.ahead = 2 * processes if processes > 1 else 0
        self._stack, self._processes, self._size = stack, processes, size
        self._pool: ProcessPoolExecutor | None = None
        self._slots: list[mmap.mmap] = []
        self._free: list[int] = []

    def submit(self, work: Work[Found], block: bytes) -> Waiting[Found]:
        """Begin work on a block; at most ``ahead + 1`` may wait for ``result``."""
        if self._processes == 1:
            return Waiting(work(block))
        if self._pool is None:
            self._pool = self._start()
        number = self._free.pop()
        if len(block) > self._size:
            return Waiting(self._pool.submit(_answer, work, block, number), number)
        self._slots[number][: len(block)] = block
        return Waiting(self._pool.submit(_answer, work, len(block), number), number)

    def result(self, waiting: Waiting[Found]) -> Found:
        """What came of a block.

        Raises:
            DataError: the process is gone.
        """
        if not isinstance(waiting.done, Future):
            return waiting.done
        try:
            answer = waiting.done.result()
        except BrokenProcessPool:
            raise DataError(
                "a reading process was killed, perhaps out of memory; rerun the command"
            ) from None
        with memoryview(self._slots[waiting.slot]) as slot:
            found: Found = pickle.loads(slot[:answer] if isinstance(answer, int) else answer)  # noqa: S301  # a worker's
        self._free.append(waiting.slot)
        return found

    def _start(self) -> ProcessPoolExecutor:
        self._slots = [mmap.mmap(-1, self._size) for _ in range(self.ahead + 1)]
        self._free = list(range(len(self._slots)))
        context = multiprocessing.get_context("fork")
        pool = ProcessPoolExecutor(self._processes, context, _begin, (os.getpid(), self._slots))
        self._stack.callback(pool.shutdown, cancel_futures=True)
        return pool


def _begin(parent: int, slots: list[mmap.mmap]) -> None:
    """Leave Ctrl-C to the parent, and end when it is gone, even by a kill."""
    _slots.extend(slots)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_AFTER_PARENT)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _answer(work: Work[Any], block: bytes | int, slot: int) -> bytes | int:
    """Work on a block that is given, or so many bytes of a slot; the result goes the same way."""
    content = _slots[slot][:block] if isinstance(block, int) else block
    found = pickle.dumps(work(content), pickle.HIGHEST_PROTOCOL)
    if len(found) > len(_slots[slot]):
        return found
    _slots[slot][: len(found)] = found
    return len(found)
