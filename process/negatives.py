"""Negatives drawn once and stored: seeded, distinct in a row, never an item of the user's own."""

from __future__ import annotations

import numpy as np

from legos.data.ragged import RaggedArray
from legos.errors import DataError
from legos.scratch import release, room
from process.ties import contains

_BLOCK = 1 << 16  # rows drawn at once; changes memory, not results


def draw_negatives(
    generator: np.random.Generator,
    read: RaggedArray,
    users: np.ndarray,
    count: int,
    weights: np.ndarray,
) -> np.ndarray:
    """Draw ``count`` items a row, in proportion to ``weights``.

    Args:
        generator: the source of every draw.
        read: the items of every user, ``U`` rows; none of them is drawn for that user.
        users: ``(n,)`` int, the user of every row wanted.
        count: items a row.
        weights: ``(N,)`` float, not negative; an item of weight 0 is never drawn.

    Returns:
        ``(n, count)`` int32 item rows; many of them lie on disk.

    Raises:
        DataError: a user has read so much that fewer than ``count`` items are left.
    """
    num_items = len(weights)
    keys = np.unique(read.rows * num_items + read.values)
    drawable = weights > 0
    taken = np.bincount(keys[drawable[keys % num_items]] // num_items, minlength=len(read.offsets))
    left = int(drawable.sum()) - int(taken[users].max(initial=0))
    if len(users) and left < count:
        raise DataError(
            f"{count} negatives a row are requested, but one user has read all but {left} of the "
            f"{int(drawable.sum())} items; ask for fewer"
        )
    bounds = np.cumsum(weights, dtype=np.float64)
    drawn = room((len(users), count), np.int32)
    left_open = [np.zeros((0, 2), dtype=np.int64)]
    for begin in range(0, len(users), _BLOCK):
        part = slice(begin, begin + _BLOCK)
        spots = generator.random(drawn[part].size) * bounds[-1]
        drawn[part] = np.searchsorted(bounds, spots, side="right").reshape(drawn[part].shape)
        left_open.append(np.argwhere(_is_wrong(keys, users[part], drawn[part], num_items)))
        left_open[-1][:, 0] += begin
        release(drawn)
    open_rows, open_columns = np.concatenate(left_open).T
    while len(open_rows):
        spots = generator.random(len(open_rows)) * bounds[-1]
        drawn[open_rows, open_columns] = np.searchsorted(bounds, spots, side="right")
        rows = np.unique(open_rows)
        local, open_columns = np.nonzero(_is_wrong(keys, users[rows], drawn[rows], num_items))
        open_rows = rows[local]
    return drawn


def _is_wrong(keys: np.ndarray, users: np.ndarray, drawn: np.ndarray, num_items: int) -> np.ndarray:
    """``(n, count)`` bool: read by the user, or further left in the row already."""
    wrong: np.ndarray = _is_read(keys, users, drawn, num_items) | _is_repeated(drawn)
    return wrong


def _is_read(keys: np.ndarray, users: np.ndarray, drawn: np.ndarray, num_items: int) -> np.ndarray:
    wanted = users[:, None].astype(np.int64) * num_items + drawn
    return contains(keys, wanted)


def _is_repeated(drawn: np.ndarray) -> np.ndarray:
    """Every value that stands further left in its row already."""
    order = np.argsort(drawn, axis=1, kind="stable")
    in_order = np.take_along_axis(drawn, order, axis=1)
    repeated = np.zeros(drawn.shape, dtype=bool)
    np.put_along_axis(repeated, order[:, 1:], in_order[:, 1:] == in_order[:, :-1], axis=1)
    return repeated
