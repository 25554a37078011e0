"""Files of events, read in blocks into arrays of whole numbers: 40 bytes an event."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from legos.errors import DataError
from process.bad_lines import BadLine, BadLines
from process.table.joining import refuse_two_writings
from process.table.names import Names
from process.table.roles import find_column, find_roles, missing_role
from process.table.sources import Block, Source
from process.table.times import (
    EXPECTED,
    FORMS,
    SMALL,
    UNSWAPPED,
    Dates,
    are_swapped,
    holds_dates,
    read_small,
    read_times,
)
from process.table.values import (
    NOTHING,
    each,
    id_of,
    is_spoiled,
    list_of,
    listed,
    numbers,
    plain_of,
    shown,
    text_of,
    without_scale,
)
from process.ties import mix

ROLES = ("user", "item", "time", "event", "rating", "shown", "impression", "label", "split")
TEXTS = ("review", "headline")  # read where the user names a column alone: they are large
SPLIT_NAMES = {
    "train": 0, "training": 0, "tr": 0, "valid": 1, "validation": 1, "val": 1, "dev": 1,
    "test": 2, "testing": 2, "te": 2,
}  # fmt: skip
_NO, _YES = ("0", "false", "no", "n", "f", "0.0"), ("1", "true", "yes", "y", "t", "1.0")


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
            parts.append(_BlockReader(events, source, roles, block, bad, first_form, dates).read())
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


class _BlockReader:
    """One block of events.

    Args:
        events: whose names grow.
        source: of the block.
        roles: role -> column.
        block: the rows.
        bad: counts what is left out.
        first_form: form of times -> the first row of it; grows.
        dates: as :func:`read_events`.
    """

    def __init__(
        self,
        events: Events,
        source: Source,
        roles: Mapping[str, str],
        block: Block,
        bad: BadLines,
        first_form: dict[int, BadLine],
        dates: Dates | None,
    ) -> None:
        self.first_form, self.dates = first_form, dates
        self.events, self.source, self.roles = events, source, roles
        self.block, self.bad = block, bad
        self.good = np.ones(len(block), dtype=bool)

    def column(self, role: str) -> np.ndarray | None:
        """The values of a role, None where there is none."""
        return self.block.columns[self.roles[role]] if role in self.roles else None

    def at(self, row: int) -> str:
        """The place of a row."""
        return self.source.at(int(self.block.lines[row]))

    def refuse(self, wrong: np.ndarray, role: str, expected: str) -> None:
        """Leave rows out whose value of a role is not what it should be."""
        values = self.column(role)
        for row in np.flatnonzero(wrong & self.good).tolist():
            name = self.roles.get(role, role)
            value = "nothing" if values is None else shown(values[row])
            message = f"{name!r} is {value}, expected {expected}"
            self.bad.add(BadLine(self.at(row), f"{name!r} is not {expected}", message))
        self.good &= ~wrong

    def read(self) -> dict[str, np.ndarray]:
        """Arrays by name, of the good rows alone; ``form`` among them."""
        events, lines, source = self.events, self.block.lines, self.source
        users = self.column("user")
        assert users is not None  # noqa: S101  # no source is read without
        found = {"user": events.users.code(users, lines, source, id_of)}
        self.refuse(found["user"] < 0, "user", "an id")
        shown_items = self.column("shown")
        if shown_items is None:
            items = self.column("item")
            assert items is not None  # noqa: S101  # said where roles are found
            found["item"] = events.items.code(items, lines, source, _unspoiled(self))
            self.refuse(found["item"] < 0, "item", "an id")
        found["time"], found["form"] = self._times()
        if (ratings := self.column("rating")) is not None:
            stars, wrong = numbers(without_scale(ratings), commas=self.source.commas)
            found["rating"] = stars.astype(np.float32)
            self.refuse(wrong, "rating", "a number")
        if (kinds := self.column("event")) is not None:
            found["kind"] = events.kinds.code(kinds, lines, source, plain_of)
            self.refuse(found["kind"] < 0, "event", "a kind of event")
        if (splits := self.column("split")) is not None:
            found["split"] = each(
                splits, lambda x: SPLIT_NAMES.get(plain_of(x).lower(), -1), np.int8
            )
            self.refuse(found["split"] < 0, "split", "train, valid or test")
        for role in TEXTS:
            if (texts := self.column(role)) is not None:
                found[role] = each(texts, text_of)
        if shown_items is not None:
            return self._shown(found, shown_items)
        if (lists := self.column("impression")) is not None:
            found["list"] = events.lists.code(lists, lines, source, id_of)
            self.refuse(found["list"] < 0, "impression", "an id")
        if (labels := self.column("label")) is not None:
            codes = each(labels, _label, np.int8)
            self.refuse(codes < 0, "label", "0 or 1")
            found["clicked"] = codes == 1
        return {name: values[self.good] for name, values in found.items()}

    def _times(self) -> tuple[np.ndarray, np.ndarray]:
        values = self.column("time")
        if values is None:
            return np.full(len(self.block), -1), np.full(len(self.block), -1, dtype=np.int8)
        zoned = self.roles["time"] in self.source.zoned
        ticks, form, wrong = read_times(values, zoned=zoned, dates=self.dates)
        if wrong.any():
            self.refuse(wrong & are_swapped(values), "time", UNSWAPPED)
        self.refuse(wrong, "time", EXPECTED)
        for code in np.unique(form[(form >= 0) & self.good]).tolist():
            if code not in self.first_form:
                row = int(((form == code) & self.good).argmax())
                name, value = self.roles["time"], shown(values[row])
                message = f"{name!r} is {value}; most others are "
                kind = "time written unlike the others"
                self.first_form[code] = BadLine(self.at(row), kind, message)
        return ticks, form

    def _shown(self, found: dict[str, np.ndarray], lists: np.ndarray) -> dict[str, np.ndarray]:
        """One row for each item of a shown list."""
        clicks = self.column("item")
        labels = self.column("label")
        rows, items, clicked = [], [], []
        wrong = np.zeros(len(lists), dtype=bool)
        for row in np.flatnonzero(self.good).tolist():
            names = list_of(lists[row])
            marks = _marks(names, clicks, labels, row)
            if not names or marks is None:
                wrong[row] = True
                continue
            rows += [row] * len(names)
            items += names
            clicked += marks
        self.refuse(wrong, "shown", "a list of items with a click or label for each of its items")
        index = np.array(rows, dtype=np.int64)
        places = self.block.lines[index]
        made = {name: values[index] for name, values in found.items()}
        names_ = np.array(items, dtype=object)
        made["item"] = self.events.items.code(names_, places, self.source, id_of)
        made["list"] = (self.events.num_lists + index).astype(np.int32)
        self.events.num_lists += len(lists)
        made["clicked"] = np.array(clicked, dtype=bool)
        return made


def _unspoiled(reader: _BlockReader) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        name = id_of(value)
        if is_spoiled(name):
            raise DataError(
                f"{reader.at(0)}: in the lines from here on item {name!r} is in scientific "
                "notation: a spreadsheet has dropped its last digits; export the column as text"
            )
        return name

    return convert


def _split(value: Any) -> int:
    return SPLIT_NAMES.get(plain_of(value).lower(), -1)


def _label(value: Any) -> int:
    text = plain_of(value).lower()
    return 1 if text in _YES else 0 if text in _NO else -1


def _marks(
    names: Sequence[str], clicks: np.ndarray | None, labels: np.ndarray | None, row: int
) -> list[bool] | None:
    """Which items of a list were clicked; None where it cannot be told."""
    if labels is not None:
        found = list_of(labels[row])
        codes = [_label(each) for each in found]
        if len(codes) == len(names) and min(codes) >= 0:
            return [code == 1 for code in codes]
        if not set(found) <= set(names):
            return None
        return [name in found for name in names]
    if clicks is None:
        return None
    found = list_of(clicks[row]) if str(clicks[row]).strip().lower() not in NOTHING else []
    return [name in found for name in names] if set(found) <= set(names) else None


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
