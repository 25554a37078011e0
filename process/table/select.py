"""Which events count, and how much: kinds, clicks, known items."""

from __future__ import annotations

import numpy as np

from legos.errors import DataError, nearest
from process.interactions.rows import Interactions
from process.table.joining import join_ids
from process.table.reading import Reading
from process.table.times import TICKS
from process.ties import by_id, ranks

_TOLD = 5  # unknown items named


def selected(reading: Reading) -> Interactions:
    """The events that count as interactions; ``reading.events`` has what more is
    known of them, in the same order.

    Raises:
        DataError: no event is left, or the options do not fit the events.
    """
    weight = _weights(reading)
    if not reading.has_lists and reading.events.clicked is not None:
        weight = _clicked_only(reading, weight)
    return _interactions(reading, _known_items(reading), weight)


def _weights(reading: Reading) -> np.ndarray | None:
    """Weigh the events by their kinds; those that count nothing are left out."""
    options, events = reading.options, reading.events
    if options.weights is None:
        if events.kind is not None:
            counts = np.bincount(events.kind, minlength=len(events.kinds.codes)).tolist()
            found = zip(events.kinds.codes, counts, strict=True)
            reading.kinds = {kind: (count, 1) for kind, count in found}
        return None
    if events.kind is None:
        raise DataError(
            "--event-weight and --positive: no column says what was done; name it by --event COLUMN"
        )
    known = list(events.kinds.codes)
    for kind in options.weights:
        if kind not in known:
            raise DataError(f"no event is a {kind!r}; {nearest(kind, known)}")
    by_kind = np.array([options.weights.get(kind, 0) for kind in known], dtype=np.int16)
    counts = np.bincount(events.kind, minlength=len(known)).tolist()
    reading.kinds = {
        kind: (count, int(weight))
        for kind, count, weight in zip(known, counts, by_kind, strict=True)
    }
    weight = by_kind[events.kind]
    reading.oddities["events of kinds that count nothing, left out"] = int((weight == 0).sum())
    reading.events = events.take(weight > 0)
    weight = weight[weight > 0]
    return weight if len(np.unique(weight)) > 1 or weight.max(initial=1) > 1 else None


def _clicked_only(reading: Reading, weight: np.ndarray | None) -> np.ndarray | None:
    """Without lists an item that was not clicked says nothing of what it was shown with."""
    clicked = reading.events.clicked
    assert clicked is not None  # noqa: S101  # said by the caller
    reading.oddities["events labelled 0 that no impression groups, left out"] = int(
        (~clicked).sum()
    )
    reading.events = reading.events.take(clicked)
    return None if weight is None else weight[clicked]


def _known_items(reading: Reading) -> np.ndarray:
    """``(codes,)`` int64 row of every item of the events, -1 = unknown.

    Raises:
        DataError: the items are none of the catalogue's.
    """
    events, label = reading.events, reading.label
    catalogue = reading.items.first[0].rsplit(":", 1)[0]
    names = list(events.items.codes)
    joined = join_ids(names, reading.items.ids, label, catalogue)
    if joined.note:
        reading.notes.append(joined.note)
    counts = np.bincount(events.item, minlength=len(names))
    unknown = np.flatnonzero((joined.rows < 0) & (counts > 0))
    lost, total = int(counts[unknown].sum()), len(events)
    if not total:
        raise DataError(f"{label}: no event is left")
    if not lost:
        return joined.rows
    first = ", ".join(f"{names[c]!r} ({events.items.first(c)})" for c in unknown[:_TOLD])
    more = f" and {len(unknown) - _TOLD:,} more" if len(unknown) > _TOLD else ""
    told = (
        f"{lost:,} of {total:,} events are of {len(unknown):,} items that {catalogue} does not "
        f"have: {first}{more}"
    )
    example = reading.items.ids[0]
    if lost == total:
        raise DataError(
            f"{told}; its ids look like {example!r}: are {reading.column('item')!r} of the "
            f"events and {reading.items.column!r} of the items the same ids? --item COLUMN names "
            "the column"
        )
    if reading.options.unknown == "refuse":
        raise DataError(f"{told} (--unknown refuse)")
    if reading.options.unknown is None and lost > total / 2:
        raise DataError(
            f"{told}, which is most; its ids look like {example!r}. If that is so, --unknown "
            "drop leaves these events out"
        )
    reading.notes.append(f"{told}; left out")
    reading.oddities["events of unknown items, left out"] = lost
    reading.oddities["unknown items"] = len(unknown)
    return joined.rows


def _interactions(reading: Reading, rows: np.ndarray, weight: np.ndarray | None) -> Interactions:
    """Events of known items."""
    events = reading.events
    item = rows[events.item]
    known = item >= 0
    if not known.all():
        events, item = events.take(known), item[known]
        weight = None if weight is None else weight[known]
    user_ids = list(events.users.codes)
    order = by_id(user_ids)
    if (events.time < 0).any() and (events.time >= 0).any():
        undated = int((events.time < 0).sum())
        reading.oddities["events without a time, put before all others of their user"] = undated
    unrated = np.full(len(events), np.nan, dtype=np.float32)
    found = Interactions(
        user_ids=[user_ids[row] for row in order],
        item_ids=reading.items.ids,
        user=ranks(order)[events.user],
        item=item.astype(np.int32),
        rating=unrated if events.rating is None else events.rating,
        time=events.time,
        place=np.arange(len(events)),
        content=None if reading.options.ordered else events.content,
        weight=weight,
        ticks=TICKS,
    )
    events.release()
    reading.events = events
    return found
