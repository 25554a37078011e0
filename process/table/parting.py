"""Train, valid and test: interactions or shown lists become impressions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from legos.errors import DataError
from process.interactions.filters import Filters, apply_filters, without_low
from process.interactions.impressions import Negatives, next_item_impressions, user_impressions
from process.interactions.rows import Interactions
from process.interactions.splits import (
    TRAIN,
    VALID,
    by_time,
    leave_last_out,
    random_80_10_10,
    short_users,
)
from process.raw import Impressions, Unasked
from process.table.options import NONE, OWN, RANDOM
from process.table.reading import Reading
from process.table.shown import last_of_some, shown_lists

CHECKED = 1000  # users whose last click is asked again where all is train
CANDIDATES, NEGATIVES = (20, 99), 4
CUTS, LONGEST = (0.8, 0.9), 100
MOST_99 = 50_000  # users of the 1 + 99 protocol unless asked for: 100 items a user and split


@dataclass(frozen=True)
class Parted:
    """Interactions and their impressions.

    Attributes:
        interactions: that stay, or all that was shown.
        codes: ``(K,)`` split of each interaction, or ``(L,)`` of each list.
        splits: impressions by split.
        unasked: events of users whom no split has, such as a single one of train.
    """

    interactions: Interactions
    codes: np.ndarray
    splits: dict[str, Impressions]
    unasked: Unasked | None = None


def part_clicks(reading: Reading, interactions: Interactions) -> Parted:
    """Filter, split, draw negatives.

    Raises:
        DataError: nothing passes the filters, or a split cannot be made.
    """
    options, rule = reading.options, reading.rule
    for given, option in (
        (options.rating_above, "--rating-above"),
        (options.min_rating, "--min-rating"),
    ):
        if given is not None and np.isnan(interactions.rating).all():
            raise DataError(f"{option}: no column has ratings; name it by --rating COLUMN")
    if options.min_rating is not None:
        interactions, dropped = without_low(
            interactions, interactions.rating < options.min_rating, f"below {options.min_rating:g}"
        )
        reading.oddities |= dropped
    filters = Filters(
        options.rating_above, options.duplicates, options.user_core, options.item_core
    )
    kept, dropped = apply_filters(interactions.chronological(options.seed), filters)
    del interactions  # millions
    reading.oddities |= dropped
    kept = kept.with_items_in("hash", _unclicked(reading, kept))
    if rule in ("leave-last-out", RANDOM) and (short := short_users(kept)):
        reading.oddities["users of fewer than 3 events, train only"] = short
    codes = _codes(reading, kept, reading.events.split)
    if rule == RANDOM:
        return Parted(kept, codes, _filled(user_impressions(kept, codes)))
    if rule == OWN and (order := _train_first(reading, kept.user, codes)) is not None:
        kept, codes = kept.take(order), codes[order]
    longest = options.longest or LONGEST
    splits, unasked = next_item_impressions(
        kept,
        codes,
        _negatives(reading, kept),
        longest=longest,
        again=_asked_again(reading, kept, codes),
    )
    if unasked:
        reading.oddities["held-out events without a history, in no impression"] = unasked
    splits = _filled(splits)
    return Parted(kept, codes, splits, _unasked(kept, splits, longest))


def _unasked(kept: Interactions, splits: Mapping[str, Impressions], longest: int) -> Unasked | None:
    """The newest events of users in no split; None where every user is in one."""
    is_asked = np.zeros(len(kept.user_ids), dtype=bool)
    for rows in splits.values():
        is_asked[rows.user] = True
    users = np.flatnonzero(~is_asked)
    if not len(users):
        return None
    return Unasked(users.astype(np.int32), kept.by_user.select(users).tail(longest))


def part_lists(reading: Reading, shown: Interactions) -> Parted:
    """Lay what was shown together to lists and split these.

    Raises:
        DataError: lists are not what they should be, or a split cannot be made.
    """
    owner, clicked = reading.events.list, reading.events.clicked
    assert owner is not None and clicked is not None  # noqa: S101, PT018  # read together
    shown = shown.without_unused()
    shown = shown.with_items_in("hash", _unclicked(reading, shown))
    lists = shown_lists(shown, owner, clicked, list(reading.events.lists.codes) or None)
    of_list = None
    if reading.events.split is not None:
        of_list = np.zeros(int(owner.max()) + 1, dtype=np.int8)
        of_list[owner] = reading.events.split
    codes = _codes(reading, lists.interactions, of_list)
    if reading.rule in (RANDOM, OWN):
        order = _train_first(reading, lists.interactions.user, codes)
        if order is not None:
            lists, codes = lists.take(order), codes[order]
    again = _asked_again(reading, lists.interactions, codes)
    splits = _filled(
        lists.impressions(codes, longest=reading.options.longest or LONGEST, again=again)
    )
    if reading.asked_again and "test" not in splits and "valid" in splits:
        splits["fit"] = splits["valid"]  # a data YAML has a test split
    return Parted(shown, codes, splits)


def _unclicked(reading: Reading, kept: Interactions) -> list[str]:
    """Items that stay in the catalogue though nobody clicked them."""
    if reading.options.clicked_only:
        return []
    clicked = set(kept.item_ids)
    found = [item for item in reading.items.ids if item not in clicked]
    if found:
        what = "items that nobody clicked, in the catalogue but never drawn"
        reading.oddities[what] = len(found)
    return found


def _codes(reading: Reading, rows: Interactions, own: np.ndarray | None) -> np.ndarray:
    """``(K,)`` int8 split of interactions or lists; ``own`` is what a column says, by place."""
    if reading.rule == "leave-last-out":
        return leave_last_out(rows)
    if reading.rule == "by-time":
        return by_time(rows, reading.options.cuts or CUTS)
    if reading.rule == RANDOM:
        return random_80_10_10(rows, reading.options.seed)
    if reading.rule == NONE:
        return np.full(len(rows), TRAIN, dtype=np.int8)
    assert own is not None  # noqa: S101  # that is what the rule says
    codes: np.ndarray = own[rows.place]
    if not (codes == TRAIN).any():
        raise DataError(f"column {reading.column('split')!r}: no event is of train")
    return codes


def _train_first(reading: Reading, user: np.ndarray, codes: np.ndarray) -> np.ndarray | None:
    """An order in which no history of train has what is held out; None: it is so already."""
    same = user[1:] == user[:-1]
    if not (same & (codes[1:] < codes[:-1])).any():
        return None
    reading.notes.append(
        "the split is not one of time: a user's events of train are put before those of valid, "
        "and these before those of test, so that no history tells what is held out"
    )
    return np.lexsort((np.arange(len(user)), codes, user))


def _asked_again(reading: Reading, rows: Interactions, codes: np.ndarray) -> np.ndarray | None:
    """Valid for the last rows of train of some users, where nothing else is valid."""
    if reading.rule not in (NONE, OWN) or (codes == VALID).any():
        return None
    again = np.full(len(rows), -1, dtype=np.int8)
    train = codes == TRAIN
    again[train] = last_of_some(rows.take(train), CHECKED, reading.options.seed)
    reading.asked_again = True
    reading.notes.append(
        f"nothing is valid: the last click in train of at most {CHECKED:,} users is asked again, "
        "which shows how well train is learnt, not how good that is; choose the number of epochs "
        "by another split"
    )
    return again


def _negatives(reading: Reading, kept: Interactions) -> Negatives:
    """As many as the user says; else as many as there are for every user."""
    options = reading.options
    clicked = len(np.unique(kept.item))
    pairs = np.unique(kept.user.astype(np.int64) * len(kept.item_ids) + kept.item)
    left = clicked - int(np.bincount(pairs // len(kept.item_ids)).max())
    if left < 1:
        raise DataError(
            f"a user has all {clicked} items that were clicked, so that none is left to compare "
            "with"
        )
    candidates = options.candidates
    if candidates is None:
        first, second = CANDIDATES
        candidates = (min(first, left),)
        if left >= second and len(kept.user_ids) <= MOST_99:
            candidates += (second,)
        elif left >= second:
            reading.notes.append(
                f"there are more than {MOST_99:,} users, so there is no test_{second}, which would "
                f"be larger than train; --candidates {first} {second} draws it"
            )
        else:
            reading.notes.append(
                f"a user has all but {left} of the clicked items, so that valid and test have "
                f"{candidates[0]} negatives and there is no test_{second}"
            )
    train = min(NEGATIVES, left) if options.negatives is None else options.negatives
    return Negatives(train, candidates, options.seed)


def _filled(splits: Mapping[str, Impressions]) -> dict[str, Impressions]:
    return {name: rows for name, rows in splits.items() if len(rows)}
