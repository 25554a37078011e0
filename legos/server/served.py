"""The run that is served: what the page shows of it, added items, and how a newer one follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from legos.errors import LegosError, describe
from legos.server.catalogue import Directory
from legos.server.schemas import Candidates, Item, Reload

if TYPE_CHECKING:
    from legos.recommend.run import TrainedRun

_LONGEST_LABEL = 60  # characters of a field that is shown beside the title


class Served:
    """An opened run and its directories of users and items.

    Args:
        run: as ``legos.open`` gives it.
        candidates: how its lists are found.
    """

    def __init__(self, run: TrainedRun, candidates: Candidates) -> None:
        self.run, self.candidates = run, candidates
        self.since = now()
        frame = run.items
        self.fields = [name for name in frame.columns if name != "item_id"]
        called = run.tables.manifest.get("source_columns", {})
        known = ("item_id", *self.fields)
        self.own_columns = {
            column: name for name, column in called.items() if name in known and column not in known
        }  # of the user's own file of items
        self.title = "title" if "title" in self.fields else next(iter(_texts(frame)), None)
        self._labels = [name for name in self.fields if _is_label(frame[name], name, self.title)]
        self._known = _Items(frame, self.title, self._labels)
        self._added = _Items(frame[:0], self.title, self._labels)
        self.added: list[dict[str, Any]] = []
        self.users = Directory(run.users)

    def __len__(self) -> int:
        return len(self._known.directory.ids) + len(self.added)

    def has_item(self, item: str) -> bool:
        """Whether an item can be recommended or read."""
        return item in self._known.directory or item in self._added.directory

    def nearest_items(self, item: str) -> list[str]:
        """Ids that were perhaps meant."""
        return self._known.directory.nearest(item)

    def search(self, query: str, limit: int) -> list[Item]:
        """Items by a part of id or title; added ones first."""
        found = [
            self.item(items.directory.ids[row])
            for items in (self._added, self._known)
            for row in items.directory.search(query, limit)
        ]
        return found[:limit]

    def item(self, item: str) -> Item:
        """What a reader sees of an item."""
        items = self._known if item in self._known.directory else self._added
        row = items.directory.rows.get(item)
        if row is None:  # in somebody's history, but no longer offered
            return Item(item_id=item, title="", labels=[])
        said = [_say(name, values[row]) for name, values in items.labels.items()]
        return Item(item_id=item, title=items.titles[row], labels=[text for text in said if text])

    def add(self, rows: Sequence[dict[str, Any]]) -> list[str]:
        """Add items to the run.

        Raises:
            LegosError: the model cannot, or an item is not what it should be.
        """
        given = pd.DataFrame([{**dict.fromkeys(self.fields), **row} for row in rows])
        ids = self.run.add_items(given)
        self.added = [*self.added, *rows]
        frame = pd.DataFrame(self.added, columns=["item_id", *self.fields])
        self._added = _Items(frame, self.title, self._labels)
        return ids


class _Items:
    """What is shown of items, as lists, and the directory over them."""

    def __init__(self, frame: pd.DataFrame, title: str | None, labels: Sequence[str]) -> None:
        ids = frame["item_id"].tolist()
        self.titles = frame[title].fillna("").tolist() if title else [""] * len(ids)
        self.labels = {name: frame[name].tolist() for name in labels}
        self.directory = Directory(ids, self.titles)


def _texts(frame: pd.DataFrame) -> list[str]:
    """Columns of text but the id."""
    return [
        name
        for name in frame.columns
        if name != "item_id" and not pd.api.types.is_numeric_dtype(frame[name])
    ]


def _is_label(column: pd.Series[Any], name: str, title: str | None) -> bool:
    """Whether a field is short enough to stand beside the title."""
    if pd.api.types.is_numeric_dtype(column):
        return True
    return name != title and int(column.str.len().max() or 0) <= _LONGEST_LABEL


def _say(name: str, value: Any) -> str:
    """A value as a label; "" where it is unknown."""
    if value is None or value != value:
        return ""
    if isinstance(value, float | int):
        return f"{name} {float(value):g}"
    return str(value)


@dataclass(frozen=True)
class Opening:
    """How a run is opened.

    Attributes:
        find: the newest folder of what the command line names.
        open: opens a folder and prepares it for its first request.
    """

    find: Callable[[], Path]
    open: Callable[[Path], Served]


@dataclass
class Shelf:
    """The run that answers now; a newer one is opened beside it and takes its place.

    Attributes:
        current: replaced in the thread that asks models, so never within a batch.
        opening: of newer runs.
        reload: the last attempt.
    """

    current: Served
    opening: Opening
    reload: Reload | None = field(default=None)

    def open_newest(self) -> Served:
        """Reload the newest run; what goes wrong is kept in ``reload``, and the old one stays.

        Raises:
            LegosError: it cannot be opened.
        """
        shown = str(self.current.run.folder)
        try:
            folder = self.opening.find()
            shown = str(folder)
            return self.opening.open(folder)
        except Exception as error:
            message, _ = describe(error)
            self.reload = Reload(at=now(), run=shown, error=message)
            raise LegosError(message) from error

    def replace(self, newer: Served) -> Reload:
        """Serve a newer run, with the items that were added to the old one."""
        lost = []
        for row in self.current.added:
            if newer.has_item(row["item_id"]):
                continue
            try:
                newer.add([{name: row[name] for name in row if name in ("item_id", *newer.fields)}])
            except LegosError:
                lost.append(row["item_id"])
        self.current = newer
        self.reload = Reload(at=now(), run=newer.run.name, lost_items=lost)
        return self.reload


def now() -> str:
    """The time as ISO, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
