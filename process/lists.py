"""Sets and distinct rows of whole numbers in millions, by sorting and hashing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import pandas as pd

from legos.data.ragged import RaggedArray

Id = TypeVar("Id")


def sorted_keys(keys: np.ndarray) -> np.ndarray:
    """Distinct values, ascending: by a sort, which is several times faster than a hash here."""
    keys = np.sort(keys)
    different = np.ones(len(keys), dtype=bool)
    different[1:] = keys[1:] != keys[:-1]
    return keys[different]


def contains(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Which of ``wanted``, of any shape, are among the sorted ``keys``."""
    if not len(keys):
        return np.zeros(wanted.shape, dtype=bool)
    found: np.ndarray = keys[np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)] == wanted
    return found


def without_unused(ids: Sequence[Id], rows: np.ndarray) -> tuple[list[Id], np.ndarray]:
    """Forget the ids that no row names; the others keep their order.

    Args:
        ids: by row number.
        rows: ``(n,)`` int, row numbers.

    Returns:
        the ids that are left, and ``(n,)`` int32 row numbers among them.
    """
    used, renumbered = np.unique(rows, return_inverse=True)
    return [ids[row] for row in used], renumbered.astype(np.int32)


def distinct(lists: RaggedArray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find equal (group, list) rows without looking at one row at a time.

    Rows are compared by a 64-bit hash and the finding is then checked value by value; should two
    different rows ever share a hash, another hash is tried.

    Args:
        lists: ``n`` rows of non-negative integers.
        group: ``(n,)`` rows of different groups are different.

    Returns:
        codes ``(n,)`` int64, numbered in order of first appearance, and ``(k,)`` int64 the row
        where each code appears first.
    """
    for seed in range(1, 9):
        codes, _ = pd.factorize(_row_hashes(lists, group, seed))
        first = first_rows(codes)
        if _same(lists, group, first[codes]):
            return codes, first
    raise AssertionError("eight different hashes collided: the hash function is broken")


def first_rows(codes: np.ndarray) -> np.ndarray:
    """``(k,)`` int64: the first position of each of the codes 0 to k - 1 in ``codes (n,)``."""
    first = np.zeros(int(codes.max()) + 1 if len(codes) else 0, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]  # of several writes the last one stays
    return first


def _row_hashes(lists: RaggedArray, group: np.ndarray, seed: int) -> np.ndarray:
    position = lists.positions.astype(np.uint64)
    mixed = mix(lists.values.astype(np.uint64) + mix(position + np.uint64(seed)))
    sums = lists.sums(mixed.view(np.int64)).view(np.uint64)  # wraps, as intended
    hashed: np.ndarray = sums ^ mix(group.astype(np.uint64) ^ np.uint64(seed << 32))
    return hashed


def mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele et al., OOPSLA 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = values ^ (values >> np.uint64(31))
    return mixed


def _same(lists: RaggedArray, group: np.ndarray, other: np.ndarray) -> bool:
    """Whether every row equals the row named in ``other (n,)``."""
    if not (lists.lengths == lists.lengths[other]).all() or not (group == group[other]).all():
        return False
    return bool((lists.values == lists.select(other).values).all())
