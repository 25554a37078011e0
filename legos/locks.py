"""Locks between processes: a file that one process holds open, free again when it dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from legos.errors import LegosError


class InUseError(LegosError):
    """Another process works on the same output."""


@contextmanager
def hold(
    path: Path, busy: Callable[[str], LegosError], *, wait: bool = False, keep: bool = True
) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs.

    The operating system frees the lock of a killed process; its file may stay and does no harm.

    Args:
        path: the lock file; its folder is made where it is missing.
        busy: makes the error from the number of the process that holds the lock.
        wait: wait for that process instead.
        keep: leave the file in its place afterwards.

    Raises:
        LegosError: what ``busy`` makes.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        with os.fdopen(descriptor, "r+", encoding="ascii", errors="replace") as file:
            owner = _claim(file, wait=wait)
            if owner is not None:
                raise busy(owner)
            if not _is_at(path, descriptor):
                continue  # another process removed the file between opening and locking it
            try:
                yield
                return
            finally:
                if not keep:
                    path.unlink(missing_ok=True)
                # a forked child shares the descriptor, so that closing it would not be enough
                fcntl.flock(descriptor, fcntl.LOCK_UN)


def is_free(path: Path) -> bool:
    """Whether no process holds a lock on a file; False where there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _claim(file: IO[str], *, wait: bool) -> str | None:
    """Lock an open file and write this process's number into it; None, or the owner's number."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = file.read(20).strip()
        return text if text.isdigit() else "(unknown)"
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return None


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
