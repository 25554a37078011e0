"""Arithmetic on lists laid end to end: row i is ``values[offsets[i]:offsets[i + 1]]``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd

Id = TypeVar("Id")


class Lists(NamedTuple):
    """Rows of different lengths: ``values (P,)`` and ``offsets (n + 1,)`` int64."""

    values: np.ndarray
    offsets: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """``(n,)`` int64 length of each row."""
        return np.diff(self.offsets)

    @property
    def rows(self) -> np.ndarray:
        """``(P,)`` int64 the row each value belongs to."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.lengths)

    def take(self, rows: np.ndarray) -> Lists:
        """Rows by number (int64) or mask, in the order asked."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        starts, lengths = self.offsets[:-1][rows], self.lengths[rows]
        offsets = offsets_of(lengths)
        shift = np.repeat(starts - offsets[:-1], lengths)
        return Lists(self.values[np.arange(offsets[-1]) + shift], offsets)

    def keep(self, mask: np.ndarray) -> Lists:
        """The values where ``mask (P,)`` is True; rows stay, some of them shorter."""
        kept = np.concatenate([[0], np.cumsum(mask, dtype=np.int64)])
        return Lists(self.values[mask], kept[self.offsets])


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Lengths ``(n,)`` -> offsets ``(n + 1,)`` int64."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


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


def stack(parts: list[Lists]) -> Lists:
    """The rows of all parts, one after another."""
    return Lists(
        np.concatenate([part.values for part in parts]),
        offsets_of(np.concatenate([part.lengths for part in parts])),
    )


def distinct(lists: Lists, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
        codes, _ = pd.factorize(_hashes(lists, group, seed))
        first = first_rows(codes)
        if _same(lists, group, first[codes]):
            return codes, first
    raise AssertionError("eight different hashes collided: the hash function is broken")


def first_rows(codes: np.ndarray) -> np.ndarray:
    """``(k,)`` int64: the first position of each of the codes 0 to k - 1 in ``codes (n,)``."""
    first = np.zeros(int(codes.max()) + 1 if len(codes) else 0, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]  # of several writes the last one stays
    return first


def _hashes(lists: Lists, group: np.ndarray, seed: int) -> np.ndarray:
    position = np.arange(len(lists.values)) - np.repeat(lists.offsets[:-1], lists.lengths)
    mixed = mix(lists.values.astype(np.uint64) + mix(position.astype(np.uint64) + np.uint64(seed)))
    total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed, dtype=np.uint64)])
    sums = total[lists.offsets[1:]] - total[lists.offsets[:-1]]  # uint64 wraps, as intended
    hashed: np.ndarray = sums ^ mix(group.astype(np.uint64) ^ np.uint64(seed << 32))
    return hashed


def mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele et al., OOPSLA 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = values ^ (values >> np.uint64(31))
    return mixed


def _same(lists: Lists, group: np.ndarray, other: np.ndarray) -> bool:
    """Whether every row equals the row named in ``other (n,)``."""
    if not (lists.lengths == lists.lengths[other]).all() or not (group == group[other]).all():
        return False
    return bool((lists.values == lists.take(other).values).all())
