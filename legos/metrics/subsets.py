"""Which groups are about cold items or cold users."""

from __future__ import annotations

import numpy as np

from legos.errors import DataError


def positive_subsets(
    labels: np.ndarray,
    offsets: np.ndarray,
    cold_items: np.ndarray,
    *,
    history_lengths: np.ndarray | None = None,
    threshold: int = 1,
) -> dict[str, np.ndarray]:
    """Masks over groups. A group with cold and warm positives is in neither subset of items.

    Args:
        labels: ``(M,)`` 1 = positive, 0 = negative.
        offsets: ``(G + 1,)`` int64; group g is rows ``offsets[g]:offsets[g + 1]``.
        cold_items: ``(M,)`` bool: the row's item is unseen in training.
        history_lengths: ``(G,)`` clicks of the group's user in training.
        threshold: a user with fewer clicks is cold.

    Returns:
        ``(G,)`` bool each: ``cold items`` and ``warm items`` (all positives are such; at least
        one), and with ``history_lengths`` ``cold users`` and ``warm users``.

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
    masks = {
        "cold items": (positives > 0) & (cold == positives),
        "warm items": (positives > 0) & (cold == 0),
    }
    if history_lengths is not None:
        if len(history_lengths) != groups:
            raise DataError(f"{len(history_lengths)} history lengths for {groups} groups")
        masks["cold users"] = history_lengths < threshold
        masks["warm users"] = history_lengths >= threshold
    return masks
