"""Weights restricted to an item's nearest items: one small system per item, cut from X'X.

Memory grows with items x neighbours; X'X itself is never there as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import sparse

from legos.baselines.neighbours import pages, strongest_others

_UNION = 4096  # items of the dense products that systems are cut from: 64 MiB
_NUMBERS_AT_ONCE = 2**22  # of systems that are solved together, more where one has more


class LocalSystems(NamedTuple):
    """Parts of X'X for some items, padded to the most neighbours that one of them has.

    Attributes:
        products: ``(n, k, k)`` float32 users that two neighbours have in common; 0 of padding.
        right: ``(n, k)`` float32 users that a neighbour and the item have in common; the same.
    """

    products: np.ndarray
    right: np.ndarray


Solver = Callable[[LocalSystems], np.ndarray]
"""Weights ``(n, k)`` float32 of each item's neighbours; those of padding do not count."""


def nearest(reads: sparse.csr_matrix, neighbours: int | None) -> sparse.csr_matrix:
    """``(n, n)`` the rows' nearest other items by cosine, as many as have a common user.

    Args:
        reads: ``(users, n)`` of items that somebody read.
        neighbours: of an item at most; None: all.
    """
    popularity = np.asarray(reads.sum(0)).ravel()
    normal = (reads @ sparse.diags((1 / np.sqrt(popularity)).astype(np.float32))).tocsr()
    return strongest_others(normal.T.tocsr(), normal, neighbours)


def local_weights(
    reads: sparse.csr_matrix, near: sparse.csr_matrix, solve: Solver
) -> sparse.csr_matrix:
    """Weights from items to items, ``(n, n)`` float32, those to an item in its column.

    Args:
        reads: ``(users, n)`` of items that somebody read.
        near: ``(n, n)`` the items that may have a weight to each, in its row.
        solve: finds the weights of some items.
    """
    by_column, lengths = reads.tocsc(), np.diff(near.indptr)
    values = np.empty(near.nnz, np.float32)
    order = np.argsort(lengths, kind="stable")[int((lengths == 0).sum()) :]
    while len(order):  # items with as many neighbours go together, so that little is padding
        longest = int(lengths[order[-1]])
        count = max(1, _NUMBERS_AT_ONCE // longest**2)
        order, items = order[:-count], order[-count:]
        slots = np.arange(longest) < lengths[items][:, None]  # (n, k)
        places = (near.indptr[items][:, None] + np.arange(longest))[slots]
        others = np.repeat(items[:, None], longest, 1)
        others[slots] = near.indices[places]
        values[places] = solve(_cut(by_column, items, others, slots))[slots]
    return sparse.csr_matrix((values, near.indices, near.indptr), shape=near.shape).T.tocsr()


def _cut(
    reads: sparse.csc_matrix, items: np.ndarray, others: np.ndarray, slots: np.ndarray
) -> LocalSystems:
    """The systems of some items.

    Args:
        reads: ``(users, all items)``.
        items: ``(n,)``.
        others: ``(n, k)`` neighbours of each.
        slots: ``(n, k)`` bool: no padding.
    """
    count = slots.shape[1]
    products = np.empty((len(items), count, count), np.float32)
    right = np.empty((len(items), count), np.float32)
    for part in pages(len(items), max(1, _UNION // (count + 1))):
        size = others[part].size
        union, place = np.unique(np.concatenate([others[part].ravel(), items[part]]), False, True)
        near, own = place[:size].reshape(-1, count), place[size:, None]
        some = reads[:, union]
        common = (some.T @ some).toarray()
        products[part] = common[near[:, :, None], near[:, None, :]]
        right[part] = common[near, own]
    products *= slots[:, :, None] & slots[:, None, :]
    right *= slots
    return LocalSystems(products, right)
