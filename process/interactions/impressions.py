"""Interactions with split codes become impressions: one a click, or one a user and split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from legos.data.manifest import Negatives as Kind
from legos.data.ragged import Ragged, RaggedArray, offsets_of
from legos.errors import DataError
from legos.scratch import release, room
from process.interactions.rows import Interactions
from process.interactions.splits import SPLITS, TEST, TRAIN, VALID, SplitRule
from process.moments import UNKNOWN_TIME
from process.negatives import draw_negatives
from process.raw import Impressions, Numbered

_BLOCK = 1 << 16  # impressions shuffled at once; changes memory, not results
UNBOUGHT = 0.2  # weight of an item that nobody bought in train: all that are clicked can be drawn


@dataclass(frozen=True)
class Negatives:
    """How many negatives are stored, and from what seed they are drawn.

    Attributes:
        train: a training impression; uniform among what the user has not in train.
        candidates: numbers of a held-out impression. The first makes ``valid`` and ``test`` (in
            proportion to training popularity) and ``valid_uniform`` and ``test_uniform``; every
            further one, n, makes ``valid_n`` and ``test_n``, uniform. Never an item that the user
            has in any split.
        seed: of all draws. Every split has a generator of its own.
    """

    train: int = 4
    candidates: tuple[int, ...] = (20, 99)
    seed: int = 1


def make_impressions(
    interactions: Interactions, codes: np.ndarray, rule: SplitRule, negatives: Negatives
) -> tuple[dict[str, Impressions], int]:
    """Impressions by split as a rule asks for them, and how many clicks are in none.

    Args:
        interactions: in chronological order.
        codes: ``(K,)`` split of each.
        rule: that ``codes`` follow.
        negatives: what is drawn beside a click.

    Raises:
        DataError: a split has no impressions, or too few items are left to draw from.
    """
    if rule == "random-80-10-10":
        splits, unasked = user_impressions(interactions, codes), 0
    else:
        splits, unasked = next_item_impressions(interactions, codes, negatives)
    for split, rows in splits.items():
        if len(rows) == 0:
            raise DataError(
                f"--split {rule}: {split} has no impressions; a user needs 3 interactions "
                "to be in valid and test, 4 for an impression in train of leave-last-out; the most "
                f"a user has here is {int(np.diff(interactions.user_offsets).max())}"
            )
    return splits, unasked


class _Flavour(NamedTuple):
    """A split to make: name, whose clicks, how many negatives of what kind, not in ``known``."""

    name: str
    code: int
    number: int
    kind: Kind
    weights: np.ndarray
    known: RaggedArray


def next_item_impressions(
    interactions: Interactions,
    codes: np.ndarray,
    negatives: Negatives,
    *,
    longest: int | None = None,
    again: np.ndarray | None = None,
) -> tuple[dict[str, Impressions], int]:
    """One impression a click that has a history: what the user did before, and the click.

    A click of train makes as many impressions as it weighs.

    Negatives are items that somebody clicked, as in published protocols. An item that nobody
    clicked is never drawn: in train it could only be a negative, and in a ranking it would only
    make the task easier.

    Args:
        interactions: in chronological order.
        codes: ``(K,)`` split of each.
        negatives: what is drawn beside the click.
        longest: interactions that a history keeps, the newest ones; None = all.
        again: ``(K,)`` a split that asks for the click, too, though ``codes`` has it in another
            one; -1 = none.

    Returns:
        Impressions by split, and how many held-out clicks have no history and are left out.

    Raises:
        DataError: a user has so many items that too few are left to draw from.
    """
    items = len(interactions.item_ids)
    train = interactions.take(codes == TRAIN)
    clicked = np.bincount(interactions.item, minlength=items) > 0
    popular = np.where(clicked, np.bincount(train.item, minlength=items) + UNBOUGHT, 0)
    uniform = clicked.astype(np.float64)
    everything = interactions.by_user
    flavours = [_Flavour(SPLITS[TRAIN], TRAIN, negatives.train, "uniform", uniform, train.by_user)]
    weights: dict[Kind, np.ndarray] = {"popularity": popular, "uniform": uniform}
    held_out: list[tuple[str, int, Kind]] = [
        ("", negatives.candidates[0], "popularity"),
        ("_uniform", negatives.candidates[0], "uniform"),
        *((f"_{count}", count, "uniform") for count in negatives.candidates[1:]),
    ]
    for suffix, count, kind in held_out:
        for code in (VALID, TEST):
            name = f"{SPLITS[code]}{suffix}"
            flavours.append(_Flavour(name, code, count, kind, weights[kind], everything))
    has_history = interactions.rank > 0
    splits = {}
    for position, flavour in enumerate(flavours):
        asked = codes == flavour.code
        if again is not None:
            asked |= again == flavour.code
        targets = np.flatnonzero(asked & has_history)
        if flavour.code == TRAIN and interactions.weight is not None:
            targets = np.repeat(targets, interactions.weight[targets])
        generator = np.random.default_rng([negatives.seed, position])
        splits[flavour.name] = _clicks(interactions, targets, flavour, generator, longest)
    return splits, int((~has_history & (codes != TRAIN)).sum())


def _clicks(
    interactions: Interactions,
    targets: np.ndarray,
    flavour: _Flavour,
    generator: np.random.Generator,
    longest: int | None,
) -> Impressions:
    """Impressions of the clicks at ``targets (n,)``; candidates in random order."""
    users = interactions.user[targets]
    negatives = draw_negatives(generator, flavour.known, users, flavour.number, flavour.weights)
    candidates = room((len(targets), 1 + flavour.number), np.int32)
    labels = room(candidates.shape, np.int8)
    for begin in range(0, len(targets), _BLOCK):
        part = slice(begin, begin + _BLOCK)
        shown = np.column_stack([interactions.item[targets[part]], negatives[part]])
        order = generator.random(shown.shape).argsort(axis=1)
        candidates[part] = np.take_along_axis(shown, order, axis=1)
        labels[part] = order == 0
        for array in (candidates, labels, negatives):
            release(array)
    lengths = interactions.rank[targets]
    if longest is not None:
        lengths = np.minimum(lengths, longest)
    return Impressions(
        impression_id=Numbered(len(targets)),
        user=users.astype(np.int32),
        time=interactions.seconds[targets],
        history_values=interactions.item,
        history_offsets=offsets_of(lengths),
        history_starts=targets - lengths,
        candidate_values=candidates.ravel(),
        candidate_offsets=np.arange(len(targets) + 1, dtype=np.int64) * candidates.shape[1],
        labels=labels.ravel(),
        negatives=flavour.kind,
    )


def user_impressions(interactions: Interactions, codes: np.ndarray) -> dict[str, Impressions]:
    """One impression a user and split: the user's items of that split, all of them clicks.

    The history is empty in train, and the user's items of train in valid and test.

    Args:
        interactions: ordered by user.
        codes: ``(K,)`` split of each.
    """
    train = interactions.take(codes == TRAIN).by_user
    splits = {}
    for code, name in enumerate(SPLITS):
        asked = interactions.take(codes == code).by_user
        users = np.flatnonzero(asked.lengths)
        asked = asked.select(users)
        history = train.select(users)
        if code == TRAIN:
            history = Ragged(history.values[:0], np.zeros(len(users) + 1, dtype=np.int64))
        splits[name] = Impressions(
            impression_id=Numbered(len(users)),
            user=users.astype(np.int32),
            time=np.full(len(users), UNKNOWN_TIME, dtype=np.int64),
            history_values=history.values,
            history_offsets=history.offsets,
            candidate_values=asked.values,
            candidate_offsets=asked.offsets,
            labels=np.ones(len(asked.values), dtype=np.int8),
            negatives="none",
        )
    return splits
