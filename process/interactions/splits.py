"""Which split an interaction belongs to: one code an interaction, 0 train, 1 valid, 2 test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from legos.errors import DataError
from process.interactions.rows import Interactions
from process.moments import UNKNOWN_TIME

SPLITS = ("train", "valid", "test")
TRAIN, VALID, TEST = range(3)
FEWEST = 3  # interactions a user needs to have one in every split
SplitRule = Literal["leave-last-out", "by-time", "random-80-10-10"]
RULES: Mapping[SplitRule, str] = {
    "leave-last-out": "a user's last interaction = test, the second last = valid, the rest = train",
    "by-time": "interactions up to one moment = train, up to a second one = valid, later ones = "
    "test",
    "random-80-10-10": "of every user's n interactions max(1, int(n / 10)) drawn = valid, as many "
    "= test, the rest = train; one impression a user and split: in valid and test all items but "
    "the history compete",
}


def split_codes(
    interactions: Interactions, rule: SplitRule, cuts: tuple[float, float], seed: int
) -> np.ndarray:
    """The split of each interaction, ``(K,)`` int8.

    Args:
        interactions: in chronological order.
        rule: which interactions are held out.
        cuts: quantiles of ``by-time``.
        seed: of ``random-80-10-10``.

    Raises:
        DataError: as ``by_time``.
    """
    if rule == "leave-last-out":
        return leave_last_out(interactions)
    if rule == "by-time":
        return by_time(interactions, cuts)
    return random_80_10_10(interactions, seed)


def leave_last_out(interactions: Interactions) -> np.ndarray:
    """Last = test, second last = valid, the rest = train; short users are train only.

    Args:
        interactions: in chronological order.

    Returns:
        ``(K,)`` int8.
    """
    lengths = np.diff(interactions.user_offsets)[interactions.user]
    to_end = lengths - interactions.rank
    codes = np.select([to_end == 1, to_end == 2], [TEST, VALID], TRAIN)
    return np.where(lengths < FEWEST, TRAIN, codes).astype(np.int8)


def by_time(interactions: Interactions, cuts: tuple[float, float]) -> np.ndarray:
    """Train up to the first quantile of all times, valid up to the second, test after it.

    Args:
        interactions: all with a time.
        cuts: quantiles, ``0 < first < second < 1``.

    Returns:
        ``(K,)`` int8; equal times are in the same split.

    Raises:
        DataError: a time is unknown, or a split would be empty.
    """
    unknown = int((interactions.time == UNKNOWN_TIME).sum())
    if unknown:
        raise DataError(
            f"--split by-time: {unknown:,} of {len(interactions):,} interactions have no time; use "
            "leave-last-out"
        )
    first, second = np.quantile(interactions.time, cuts, method="inverted_cdf")
    codes: np.ndarray = np.add(interactions.time > first, interactions.time > second, dtype=np.int8)
    for code, split in enumerate(SPLITS):
        if not (codes == code).any():
            raise DataError(
                f"--split by-time: {split} would be empty with quantiles {cuts[0]:g} and "
                f"{cuts[1]:g} ({len(np.unique(interactions.time)):,} different times)"
            )
    return codes


def random_80_10_10(interactions: Interactions, seed: int) -> np.ndarray:
    """Of every user's n interactions max(1, int(n / 10)) each are valid and test (CLLM4Rec).

    Args:
        interactions: ordered by user.
        seed: of the draw.

    Returns:
        ``(K,)`` int8; users of fewer than 3 interactions are train only.
    """
    keys = np.random.default_rng(seed).random(len(interactions))
    order = np.lexsort((keys, interactions.user))
    drawn = np.empty(len(order), dtype=np.int64)
    drawn[order] = interactions.rank  # users stand in the same order, so their ranks fit
    lengths = np.diff(interactions.user_offsets)[interactions.user]
    tenth = np.maximum(1, lengths // 10)
    codes = np.select([drawn < tenth, drawn < 2 * tenth], [TEST, VALID], TRAIN)
    return np.where(lengths < FEWEST, TRAIN, codes).astype(np.int8)


def short_users(interactions: Interactions) -> int:
    """How many users have too few interactions to be in every split."""
    return int((np.diff(interactions.user_offsets) < FEWEST).sum())
