"""Which interactions stay: rating, repeated pairs, iterative cores; every loss is counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from legos.errors import DataError
from process.interactions.rows import Interactions

Duplicates = Literal["first", "last", "keep"]


@dataclass(frozen=True)
class Filters:
    """What an interaction must be to stay.

    Attributes:
        rating_above: keep ratings above this (CLLM4Rec: 3); None = all, unknown ones too.
        duplicates: which one of several interactions of a user with an item stays: the first or
            the last of those of the largest weight; or all of them.
        user_core, item_core: interactions that every user and every item must have, counted again
            until nothing more falls out.
    """

    rating_above: float | None = None
    duplicates: Duplicates = "first"
    user_core: int = 1
    item_core: int = 1


def apply_filters(
    interactions: Interactions, filters: Filters
) -> tuple[Interactions, dict[str, int]]:
    """Filter; users and items that nothing is left of are forgotten.

    Args:
        interactions: in chronological order.
        filters: what stays.

    Returns:
        The rest, in the same order, and how many interactions each filter dropped.

    Raises:
        DataError: nothing is left.
    """
    counts: dict[str, int] = {}
    before = len(interactions)
    if filters.rating_above is not None:
        low = interactions.rating <= filters.rating_above
        what = f"{filters.rating_above:g} or lower"
        interactions, counts = without_low(interactions, low, what)
    if filters.duplicates != "keep":
        stays = _one_a_pair(interactions, filters.duplicates)
        again = f"interactions of the same user and item, {filters.duplicates} one kept"
        counts[again] = int((~stays).sum())
        interactions = interactions.take(stays)
    stays = core_mask(interactions.user, interactions.item, filters.user_core, filters.item_core)
    if filters.user_core > 1 or filters.item_core > 1:
        counts["interactions outside the core, dropped"] = int((~stays).sum())
    interactions = interactions.take(stays)
    if len(interactions) == 0:
        lost = ", ".join(f"{what}: {count:,}" for what, count in counts.items())
        raise DataError(
            f"none of {before:,} interactions is left ({lost}); keep more ratings, or loosen "
            "--user-core or --item-core"
        )
    return interactions.without_unused(), counts


def without_low(
    interactions: Interactions, low: np.ndarray, what: str
) -> tuple[Interactions, dict[str, int]]:
    """Drop interactions of low and of unknown rating.

    Args:
        interactions: any.
        low: ``(K,)`` bool.
        what: ratings are low, in words.

    Returns:
        The rest, in the same order, and counts of the dropped ones.
    """
    unknown = np.isnan(interactions.rating)
    counts = {
        "interactions without a rating, dropped by the threshold": int(unknown.sum()),
        f"interactions rated {what}, dropped": int(low.sum()),
    }
    return interactions.take(~(unknown | low)), counts


def core_mask(user: np.ndarray, item: np.ndarray, user_core: int, item_core: int) -> np.ndarray:
    """The largest set in which every user and every item occurs often enough.

    Args:
        user, item: ``(K,)`` int32.
        user_core, item_core: fewest interactions a user and an item.

    Returns:
        ``(K,)`` bool.
    """
    stays = np.ones(len(user), dtype=bool)
    while stays.any():
        of_user, of_item = np.bincount(user[stays]), np.bincount(item[stays])
        kept = np.flatnonzero(stays)
        good = (of_user[user[kept]] >= user_core) & (of_item[item[kept]] >= item_core)
        if good.all():
            break
        stays[kept[~good]] = False
    return stays


def _one_a_pair(interactions: Interactions, which: Duplicates) -> np.ndarray:
    pairs = interactions.user.astype(np.int64) * len(interactions.item_ids) + interactions.item
    order = np.arange(len(pairs))
    if which == "last":
        order = order[::-1]
    if interactions.weight is not None:
        order = order[np.argsort(-interactions.weight[order], kind="stable")]
    _, first = np.unique(pairs[order], return_index=True)
    stays = np.zeros(len(pairs), dtype=bool)
    stays[order[first]] = True
    return stays
