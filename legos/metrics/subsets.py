"""Which groups are about cold or warm items, cold or active users, unseen or seen users."""

from __future__ import annotations

import numpy as np

from legos.errors import DataError

ALL = "all"
"""The subset that every group is in."""


def item_subsets(
    labels: np.ndarray, offsets: np.ndarray, cold_items: np.ndarray
) -> dict[str, np.ndarray]:
    """Masks over groups. A group with cold and warm positives is in neither subset.

    Args:
        labels: ``(M,)`` 1 = positive, 0 = negative.
        offsets: ``(G + 1,)`` int64; group g is rows ``offsets[g]:offsets[g + 1]``.
        cold_items: ``(M,)`` bool: the row's item is unseen in training.

    Returns:
        ``(G,)`` bool each: ``cold items`` and ``warm items`` (all positives are such; at least
        one).

    Raises:
        DataError: lengths differ.
    """
    groups = len(offsets) - 1
    if labels.shape != cold_items.shape or int(offsets[-1]) != len(labels):
        raise DataError(
            f"labels {labels.shape}, cold_items {cold_items.shape} and offsets up to {offsets[-1]} "
            "do not match"
        )
    rows = np.flatnonzero(labels)
    group = np.searchsorted(offsets, rows, side="right") - 1
    positives = np.bincount(group, minlength=groups)
    cold = np.bincount(group, cold_items[rows], groups)
    return {
        "cold items": (positives > 0) & (cold == positives),
        "warm items": (positives > 0) & (cold == 0),
    }


def user_subsets(
    clicks: np.ndarray, seen: np.ndarray, *, cold_user_clicks: int
) -> dict[str, np.ndarray]:
    """Masks over groups by their user.

    Args:
        clicks: ``(G,)`` of the user before the group's impression.
        seen: ``(G,)`` bool: the user has an impression in the training split.
        cold_user_clicks: a user with at most so many clicks is cold (5 in ONCE).

    Returns:
        ``(G,)`` bool each: ``cold users`` and ``active users``, ``unseen users`` and ``seen
        users``.

    Raises:
        DataError: lengths differ.
    """
    if clicks.shape != seen.shape:
        raise DataError(f"clicks {clicks.shape} and seen {seen.shape} do not match")
    return {
        "cold users": clicks <= cold_user_clicks,
        "active users": clicks > cold_user_clicks,
        "unseen users": ~seen,
        "seen users": seen,
    }
