"""One block of a file of events, as arrays: codes of names, times, ratings, clicks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from legos.errors import DataError
from process.bad_lines import BadLine, BadLines
from process.table.sources import Block, Source
from process.table.times import EXPECTED, UNSWAPPED, Dates, are_swapped, read_times
from process.table.values import (
    NOTHING,
    each,
    id_of,
    is_spoiled,
    list_of,
    numbers,
    plain_of,
    shown,
    text_of,
    without_scale,
)

if TYPE_CHECKING:
    from process.table.events import Events

TEXTS = ("review", "headline")  # read where the user names a column alone: they are large
_SPLITS = {
    "train": 0, "training": 0, "tr": 0, "valid": 1, "validation": 1, "val": 1, "dev": 1,
    "test": 2, "testing": 2, "te": 2,
}  # fmt: skip
_NO, _YES = ("0", "false", "no", "n", "f", "0.0"), ("1", "true", "yes", "y", "t", "1.0")


class BlockReader:
    """One block of events.

    Args:
        events: whose names grow.
        source: of the block.
        roles: role -> column.
        block: the rows.
        bad: counts what is left out.
        first_form: form of times -> the first row of it; grows.
        dates: as in :func:`process.table.events.read_events`.
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
            found["split"] = each(splits, _split, np.int8)
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


def _unspoiled(reader: BlockReader) -> Callable[[Any], str]:
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
    return _SPLITS.get(plain_of(value).lower(), -1)


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
