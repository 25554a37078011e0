"""Orders and sets of ids in millions: the same whatever the order of a file's lines.

Raw files hold many interactions of one user at one time. Sorted by line, or by item id, such ties
carry information that has nothing to do with taste: "the next larger id" then predicts the next
item. Here ties go by a seeded hash of user and item, and rows by what their ids are (of a shop's or
a library's items by a hash of them, since such ids grow with time), so a permutation of a file's
lines leaves every table as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd

from legos.data.ragged import RaggedArray
from legos.data.spans import first_rows

_DIGEST = 8  # bytes: a column of 64-bit numbers


def by_hash(ids: Sequence[str]) -> np.ndarray:
    """``(n,)`` int64: the positions of the ids in the order of their SHA-256."""
    digests = [hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest() for name in ids]
    return np.array(sorted(range(len(digests)), key=digests.__getitem__), dtype=np.int64)


def by_id(ids: Sequence[str] | np.ndarray) -> np.ndarray:
    """``(n,)`` int64: the positions of the ids, shorter ones first, then by text.

    Numbers without leading zeros come out in the order of their values.
    """
    names = np.asarray(ids, dtype=object)
    lengths = np.fromiter(map(len, names), dtype=np.int64, count=len(names))
    longer = lengths[1:] > lengths[:-1]
    if (longer | ((lengths[1:] == lengths[:-1]) & (names[1:] > names[:-1]))).all():
        return np.arange(len(names))  # as MIND's impressions are; no need to sort millions
    keys = list(zip(lengths.tolist(), names.tolist(), strict=True))
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def ranks(order: np.ndarray) -> np.ndarray:
    """``(n,)`` int32: the new row of every old one, when ``order (n,)`` lists the old ones."""
    new = np.empty(len(order), dtype=np.int32)
    new[order] = np.arange(len(order), dtype=np.int32)
    return new


def pair_hashes(
    user_ids: Sequence[str],
    item_ids: Sequence[str],
    user: np.ndarray,
    item: np.ndarray,
    seed: int,
) -> np.ndarray:
    """``(K,)`` uint64: a hash of the raw ids of user and item, another one for every seed.

    Args:
        user_ids, item_ids: the ids.
        user, item: ``(K,)`` int, positions in them.
        seed: not negative.
    """
    hashed: np.ndarray = mix(mix(_hashes(user_ids, seed))[user] ^ _hashes(item_ids, seed)[item])
    return hashed


def line_hash(line: bytes) -> bytes:
    """8 bytes that depend on what a line says, not on where it stands."""
    return hashlib.blake2b(line.strip(), digest_size=_DIGEST).digest()


def line_hashes(lines: Iterable[bytes]) -> bytes:
    """``line_hash`` of each line, one after the other."""
    begin, found = hashlib.blake2b(digest_size=_DIGEST), []
    for line in lines:
        state = begin.copy()  # faster than a new one
        state.update(line.strip())
        found.append(state.digest())
    return b"".join(found)


def as_numbers(digests: Sequence[bytes]) -> np.ndarray:
    """``(n,)`` uint64 of as many ``line_hash``."""
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64, copy=False)


@dataclass(frozen=True)
class TimeTies:
    """How many interactions share their time with another one of the same user.

    Attributes:
        interactions: all of them.
        tied: those that do; an unknown time is a time as well.
    """

    interactions: int
    tied: int

    @property
    def share(self) -> float:
        """0 to 1."""
        return self.tied / self.interactions if self.interactions else 0.0


def count_ties(user: np.ndarray, time: np.ndarray) -> TimeTies:
    """Count the ties.

    Args:
        user, time: ``(K,)`` int, in any order.
    """
    order = np.lexsort((time, user))
    same = (np.diff(user[order]) == 0) & (np.diff(time[order]) == 0)
    tied = np.append(same, False) | np.append(False, same) if len(order) else same
    return TimeTies(len(order), int(tied.sum()))


def _hashes(ids: Sequence[str], seed: int) -> np.ndarray:
    """``(n,)`` uint64."""
    key = hashlib.blake2b(str(seed).encode("ascii"), digest_size=_DIGEST).digest()
    return as_numbers(
        [
            hashlib.blake2b(
                name.encode("utf-8", "surrogatepass"), digest_size=_DIGEST, key=key
            ).digest()
            for name in ids
        ]
    )


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
