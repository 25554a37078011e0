"""Arrays that grow with a data set, in temporary files: memory holds what is looked at.

The files have no name and are gone with the process; ``TMPDIR`` says where they lie.
"""

from __future__ import annotations

import math
import mmap
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar, overload

import numpy as np

PAGE = 1 << 14  # rows of lists and texts handled at once
_WINDOW = 1 << 22  # elements of an array looked at at once

Row = TypeVar("Row")


@overload
def pages(rows: np.ndarray, size: int = PAGE) -> Iterator[np.ndarray]: ...
@overload
def pages(rows: Sequence[Row], size: int = PAGE) -> Iterator[Sequence[Row]]: ...
def pages(rows: Any, size: int = PAGE) -> Iterator[Any]:
    """The rows in order, so many at once."""
    return (rows[first : first + size] for first in range(0, len(rows), size))


def room(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array to be filled: of zeros in a temporary file, mapped, where it is a large one."""
    size = math.prod(shape)
    if size <= _WINDOW:
        return np.zeros(shape, dtype=dtype)
    with tempfile.TemporaryFile() as file:
        file.truncate(size * np.dtype(dtype).itemsize)
        return np.memmap(file, dtype=dtype, mode="r+", shape=shape)


def on_disk(parts: Iterable[np.ndarray], dtype: Any) -> np.ndarray:
    """Parts end to end in a temporary file: ``(n,)``, mapped.

    Args:
        parts: ``(k,)`` each.
        dtype: of the result.
    """
    with tempfile.TemporaryFile() as file:
        for part in parts:
            file.write(np.ascontiguousarray(part, dtype=dtype).data)
        file.flush()
        if file.tell() == 0:
            return np.zeros(0, dtype=dtype)
        return np.memmap(file, dtype=dtype, mode="r+")


def windows(array: np.ndarray) -> Iterator[np.ndarray]:
    """Slices of ``(n,)``; of a mapped array only one at a time is in memory."""
    for first in range(0, len(array), _WINDOW):
        yield array[first : first + _WINDOW]
        release(array)


def release(array: np.ndarray) -> None:
    """Let go of the memory of a mapped array, which is read again when it is looked at."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap):
        base.madvise(mmap.MADV_DONTNEED)
