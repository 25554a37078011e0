"""Draws of the tasks, each a function of what it is for: (seed, epoch, row) and a key."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.data.sampling import below, distinct_positions, keyed_bits
from legos.errors import DataError

TEMPLATE, STARS, JITTER, WINDOW, SEPARATOR, NEGATIVES, VERDICT, ORDER, EVENT, FAMILY, DATUM = range(
    61, 72
)
UNIT = 2.0**62  # bits are below
EVALUATION = -1  # the epoch of draws for valid and test


def bits(rows: Tensor, slots: int, key: int, *, seed: int, epoch: int) -> Tensor:
    """``(B, slots)`` int64 random bits of rows ``(B,)``."""
    return keyed_bits(rows, slots, key, seed, epoch + 1)


def uniform(rows: Tensor, slots: int, key: int, *, seed: int, epoch: int) -> Tensor:
    """``(B, slots)`` float64 in (0, 1)."""
    return (bits(rows, slots, key, seed=seed, epoch=epoch).double() + 0.5) / UNIT


def normal(rows: Tensor, key: int, *, seed: int, epoch: int) -> Tensor:
    """``(B,)`` float64 of the standard normal distribution (Box and Muller, 1958)."""
    draws = uniform(rows, 2, key, seed=seed, epoch=epoch)
    return (-2 * draws[:, 0].log()).sqrt() * (2 * math.pi * draws[:, 1]).cos()


def choice(rows: Tensor, limits: Tensor | int, key: int, *, seed: int, epoch: int) -> Tensor:
    """``(B,)`` int64 in [0, limit)."""
    return below(bits(rows, 1, key, seed=seed, epoch=epoch)[:, 0], limits)


def order(rows: Tensor, slots: int, *, seed: int, epoch: int) -> Tensor:
    """``(B, slots)`` int64: a random order of as many places for each row."""
    return bits(rows, slots, ORDER, seed=seed, epoch=epoch).argsort(1)


def unseen_items(
    rows: Tensor, seen: Ragged, *, num_items: int, count: int, seed: int, epoch: int
) -> Tensor:
    """Different items, uniform over those that a user never had.

    Args:
        rows: ``(B,)`` int64 what names the draws.
        seen: B rows of item numbers, ascending and all different: also held-out ones.
        num_items: of the catalogue.
        count: items to draw.

    Returns:
        ``(B, count)`` int64.

    Raises:
        DataError: fewer items are left.
    """
    left = num_items - seen.lengths
    if len(seen) and int(left.min()) < count:
        raise DataError(
            f"{num_items} items, one user had {int(seen.lengths.max())} of them: too few are left "
            f"to draw {count}; ask for fewer negatives"
        )
    places, _ = distinct_positions(bits(rows, count, NEGATIVES, seed=seed, epoch=epoch), left)
    # the j-th item seen (from 0) is stepped over by places from (its number - j) on
    width = int(seen.lengths.max()) if len(seen) else 0
    taken = torch.full((len(seen), width), num_items, dtype=torch.int64)
    at = seen.positions
    taken[seen.rows, at] = seen.values.long() - at
    return places + torch.searchsorted(taken, places, right=True)
