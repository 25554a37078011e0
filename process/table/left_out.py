"""Sentences on what tables do not hold: users and items that were left out, empty titles."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import pandas as pd

from process.table.reading import Reading

_NAMED = 3  # ids of each


def notes_on(
    reading: Reading, user_ids: Sequence[str], item_ids: Sequence[str], items: pd.DataFrame
) -> Iterator[str]:
    """What to know of users, items and titles before a model is trained.

    Args:
        reading: of the files.
        user_ids, item_ids: that the tables have.
        items: the fields of these items, row by row.
    """
    named = reading.events.users.codes
    users = _missing(named, user_ids)
    if users:
        yield (
            f"users of {reading.label} without an event that counts, left out: {len(users):,} of "
            f"{len(named):,} ({some_of(users)})"
        )
    lost = _missing(reading.items.ids, item_ids)
    if lost:
        yield (
            f"items of {reading.items.label} without a click that counts, left out: "
            f"{len(lost):,} of {len(reading.items.ids):,} ({some_of(lost)})"
        )
    texts = reading.items.named("text", "list")
    title = "title" if "title" in texts else next(iter(texts), None)
    if title is None:
        return
    empty = [item for item, text in zip(item_ids, items[title], strict=True) if text == ""]
    if empty:
        yield f"{title} is empty for {len(empty):,} of {len(item_ids):,} items ({some_of(empty)})"


def _missing(ids: Collection[str], kept: Sequence[str]) -> list[str]:
    """Those that were not kept, in their order."""
    if len(ids) == len(kept):  # kept ones are some of them
        return []
    there = set(kept)
    return [each for each in ids if each not in there]


def some_of(ids: Sequence[str]) -> str:
    """The first ids, and how many more there are."""
    more = f" and {len(ids) - _NAMED:,} more" if len(ids) > _NAMED else ""
    return ", ".join(map(repr, ids[:_NAMED])) + more
