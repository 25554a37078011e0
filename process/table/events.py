"""Files of events, read in blocks into arrays of whole numbers: 40 bytes an event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from legos.errors import DataError
from process.bad_lines import BadLine, BadLines
from process.table.event_blocks import TEXTS, BlockReader
from process.table.joining import refuse_two_writings
from process.table.names import Names
from process.table.roles import find_column, find_roles, missing_role
from process.table.sources import Source
from process.table.times import (
    FORMS,
    SMALL,
    Dates,
    holds_dates,
    read_small,
)
from process.table.values import (
    listed,
)
from process.ties import mix

ROLES = ("user", "item", "time", "event", "rating", "shown", "impression", "label", "split")


@dataclass
class Events:
    """Events; ``K`` of them, in the order of the lines.

    Attributes:
        users, items, kinds, lists: names of users, items, kinds of events and impressions.
        user, item: ``(K,)`` int32 codes.
        time: ``(K,)`` int64 Unix microseconds, -1 = unknown.
        rating: ``(K,)`` float32 stars, NaN = unknown; None where no column has them.
        kind: ``(K,)`` int32 codes; None where no column has them.
        list: ``(K,)`` int32 codes of impressions; None where no column has them.
        clicked: ``(K,)`` bool: labelled 1; None where no column has labels.
        split: ``(K,)`` int8: 0 train, 1 valid, 2 test; None where no column has them.
        review, headline: ``(K,)`` str objects; None where the user names no column.
        roles: role -> column, by label of the source.
        unread: columns that have no role.
        forms: how times are written, and how many.
        num_lists: lists of shown items that had no ids.
    """

    users: Names = field(default_factory=Names)
    items: Names = field(default_factory=Names)
    kinds: Names = field(default_factory=Names)
    lists: Names = field(default_factory=Names)
    user: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    item: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    time: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    rating: np.ndarray | None = None
    kind: np.ndarray | None = None
    list: np.ndarray | None = None
    clicked: np.ndarray | None = None
    split: np.ndarray | None = None
    review: np.ndarray | None = None
    headline: np.ndarray | None = None
    roles: dict[str, dict[str, str]] = field(default_factory=dict)
    unread: dict[str, None] = field(default_factory=dict)
    forms: dict[str, int] = field(default_factory=dict)
    num_lists: int = 0

    def __len__(self) -> int:
        return len(self.user)

    @property
    def content(self) -> np.ndarray:
        """``(K,)`` uint64 hash of all that is read of an event but user, item and time."""
        found = np.zeros(len(self), dtype=np.uint64)
        if self.kind is not None:
            names = _hashes(list(self.kinds.codes))
            found = mix(found ^ names[self.kind])
        for values in (self.rating, self.clicked, self.split):
            if values is not None:
                bits = values.astype(np.float64).view(np.uint64)
                found = mix(found ^ bits)
        for texts in self.texts.values():
            found = mix(found ^ _hashes(texts.tolist()))
        return found

    @property
    def texts(self) -> dict[str, np.ndarray]:
        """What users wrote, ``(K,)`` str objects by field."""
        return {name: found for name in TEXTS if (found := getattr(self, name)) is not None}

    def release(self) -> None:
        """Forget the events but for what splits and lists are made of; interactions have them."""
        for name in ("user", "item", "time", "rating", "kind"):
            if getattr(self, name) is not None:
                setattr(self, name, np.zeros(0, dtype=np.int32))

    def take(self, rows: np.ndarray) -> Events:
        """Some events by mask or number; names stay."""
        part = Events(self.users, self.items, self.kinds, self.lists)
        for name in (
            *("user", "item", "time", "rating", "kind", "list", "clicked", "split"),
            *TEXTS,
        ):
            values = getattr(self, name)
            setattr(part, name, None if values is None else values[rows])
        part.roles, part.unread, part.forms = self.roles, self.unread, self.forms
        return part


def _hashes(names: Sequence[str]) -> np.ndarray:
    from process.ties import as_numbers, line_hash

    return as_numbers([line_hash(name.encode("utf-8")) for name in names])


def read_events(
    sources: Sequence[Source],
    given: Mapping[str, str | None],
    bad: BadLines,
    *,
    own_split: bool = True,
    ordered: bool = False,
    dates: Dates | None = None,
) -> Events:
    """Read all events; those of bad lines are left out and counted.

    Args:
        sources: the files, each with a user and an item (``process.table.missing``).
        given: role -> the column that the user names.
        bad: counts the lines that cannot be read.
        own_split: take the split from a column, where there is one.
        ordered: a user's lines stand in their order, so that no column has to say when.
        dates: how a time such as 05/06/2025 is meant.

    Raises:
        DataError: several columns may say when, a damaged file, or too many bad lines.
    """
    events = Events()
    parts: list[dict[str, np.ndarray]] = []
    first_form: dict[int, BadLine] = {}
    for source in sources:
        roles = _roles(source, given)
        if not own_split:
            roles.pop("split", None)
        if "time" not in roles:
            _find_times(source, roles, ordered=ordered)
        events.roles[source.label] = roles
        events.unread |= dict.fromkeys(n for n in source.names if n not in roles.values())
        for block in source.blocks(list(dict.fromkeys(roles.values())), bad):
            parts.append(BlockReader(events, source, roles, block, bad, first_form, dates).read())
    if not parts:
        raise DataError(f"{sources[0].label}: no event can be read")
    names = [name for name in parts[0] if name != "form"]
    every = {name: _concatenated(parts, name) for name in names}
    form = np.concatenate([part.pop("form") for part in parts])
    parts.clear()
    for name, values in every.items():
        setattr(events, name, values)
    refuse_two_writings(events.users.codes, events.users.first)
    return _of_one_form(events, form, first_form, bad)


def _concatenated(parts: Sequence[dict[str, np.ndarray]], name: str) -> np.ndarray:
    if any(name not in part for part in parts):
        raise DataError(f"not all files of events have a column for {name!r}; give them one")
    return np.concatenate([part.pop(name) for part in parts])


def _roles(source: Source, given: Mapping[str, str | None]) -> dict[str, str]:
    roles = find_roles(source, given, wanted=ROLES)
    if "label" in roles and not {"impression", "shown"} & roles.keys() and not given.get("label"):
        del roles["label"]
    for role in TEXTS:
        if (name := given.get(role)) is not None:
            roles[role] = find_column(source, name, f"--{role}")
    if "impression" in roles and "label" not in roles:
        if given.get("impression"):
            raise DataError(missing_role(source, "label"))
        del roles["impression"]
    return roles


def _find_times(source: Source, roles: dict[str, str], *, ordered: bool) -> None:
    """Take the one column of dates for the time, where no name says which it is.

    Raises:
        DataError: there are several.
    """
    names = [name for name in source.names if name not in roles.values()]
    dated = date_columns(source, names)
    if len(dated) == 1:
        roles["time"] = dated[0]
    elif dated and not ordered:
        raise DataError(several_times(source, dated))


def date_columns(source: Source, names: Sequence[str]) -> list[str]:
    """Those of some columns that hold dates, by the first rows."""
    block = next(iter(source.blocks(names, BadLines(1.0))), None) if names else None
    return [] if block is None else [n for n in names if holds_dates(block.columns[n])]


def several_times(source: Source, dated: Sequence[str]) -> str:
    """The message about several columns that may be the time."""
    return (
        f"{source.label}: which column is the time (when)? {len(dated)} hold dates: "
        f"{listed(dated)}; --time COLUMN names it (--ordered: none, the lines are in order)"
    )


def _of_one_form(
    events: Events, form: np.ndarray, first: Mapping[int, BadLine], bad: BadLines
) -> Events:
    """Leave out the events whose times are not written as most are."""
    counts = np.bincount(form[form >= 0], minlength=len(FORMS))
    usual = int(counts.argmax())
    for code in np.flatnonzero(counts).tolist():
        if code != usual:
            message = str(first[code]).removeprefix(f"{first[code].at}: ") + FORMS[usual]
            bad.add(BadLine(first[code].at, first[code].kind, message), int(counts[code]))
    events.forms = {FORMS[code]: int(counts[code]) for code in np.flatnonzero(counts).tolist()}
    if counts.sum() > counts[usual]:
        kept = (form < 0) | (form == usual)
        events, form = events.take(kept), form[kept]
    if usual == SMALL and counts[usual]:
        small = form == SMALL
        events.time[small], told = read_small(events.time[small])
        events.forms[told] = events.forms.pop(FORMS[SMALL])
    return events
