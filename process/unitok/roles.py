"""Which tables and columns of a UniTok folder are what: by name, by vocabulary, as a user says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from legos.errors import DataError, nearest
from process.raw import TRAIN
from process.unitok.depots import Depot, DepotColumn

ITEMS = ("items", "item", "news", "book", "books", "movie", "movies", "articles", "products")
USERS = ("users", "user")
HISTORY = ("history", "clicks", "his", "click_history")
LABEL = ("click", "label", "clicked", "target")
IMPRESSION = ("imp", "impression_id", "impression", "imp_id", "session", "request_id")
SPLITS = {"dev": "valid", "validation": "valid", "val": "valid"}


@dataclass(frozen=True)
class Roles:
    """What a user names; None is found by name or structure.

    Attributes:
        items, users: folders of these tables.
        item, user, label, impression: columns of the interactions.
        history: column of the users.
        splits: folders by split.
    """

    items: str | None = None
    users: str | None = None
    item: str | None = None
    user: str | None = None
    label: str | None = None
    impression: str | None = None
    history: str | None = None
    splits: Mapping[str, str] = field(default_factory=dict)


class Folder:
    """The tables of a folder by what they are.

    Attributes:
        items, users: their tables; None where the folder has none.
        history: column of the users; None where they have none.
        histories: the table of history states that our own copies have.
        item_vocabulary, user_vocabulary: of their ids.
        splits: folder by split, train first.

    Raises:
        DataError: a table is missing, or a name that the user gives.
    """

    def __init__(self, folder: Path, depots: Mapping[str, Depot], roles: Roles) -> None:
        self.folder, self.depots, self.roles = folder, depots, roles
        users = self._table("users", roles.users, USERS)
        self.history = self._history(users)
        items = self._table("items", roles.items, ITEMS)
        if items is None and self.history is not None and users is not None:
            of = users.columns[self.history].vocabulary
            items = next((each for each in depots.values() if each.key_vocabulary == of), None)
        if items is None and self.history is None:
            raise DataError(
                f"{folder}: no table of items among {', '.join(depots)}; name it with --items"
            )
        self.items, self.users = items, users
        self.item_vocabulary = self._item_vocabulary()
        self.histories = depots.get("histories")
        self.splits = self._splits()
        self.user_vocabulary = self._user_vocabulary()

    def _table(self, what: str, asked: str | None, names: Iterable[str]) -> Depot | None:
        if asked is not None:
            if asked not in self.depots:
                raise DataError(f"--{what} {asked}: {nearest(asked, self.depots)}")
            return self.depots[asked]
        return next((self.depots[name] for name in names if name in self.depots), None)

    def _history(self, users: Depot | None) -> str | None:
        if users is None:
            return None
        lists = [name for name, column in users.columns.items() if column.lists is not None]
        if self.roles.history is not None:
            if self.roles.history not in lists:
                hint = nearest(self.roles.history, lists)
                raise DataError(f"--history {self.roles.history}: {users.folder}: {hint}")
            return self.roles.history
        return next((name for name in HISTORY if name in lists), None)

    def _item_vocabulary(self) -> str:
        if self.items is not None:
            return self.items.key_vocabulary
        assert self.users is not None and self.history is not None  # noqa: S101, PT018
        return self.users.columns[self.history].vocabulary

    def _user_vocabulary(self) -> str:
        if self.users is not None:
            return self.users.key_vocabulary
        depot = self.depots[next(iter(self.splits.values()))] if self.splits else None
        if depot is None or self.roles.user is None:
            raise DataError(f"{self.folder}: no table of users; name it with --users")
        return self.column(depot, self.roles.user, (), "user").vocabulary

    def _splits(self) -> dict[str, str]:
        """Folder by split, train first; those that show items to users."""
        for split, table in self.roles.splits.items():
            if table not in self.depots:
                raise DataError(f"--split {split}={table}: {nearest(table, self.depots)}")
        found = dict(self.roles.splits) or {
            SPLITS.get(name, name): name
            for name, depot in self.depots.items()
            if depot not in (self.items, self.users, self.histories)
            and depot.key_vocabulary != self.item_vocabulary
            and any(
                column.vocabulary == self.item_vocabulary
                and (column.scalar is not None or name == "candidates")
                for name, column in depot.columns.items()
            )
        }
        order = sorted(found, key=lambda name: (name != TRAIN, name != "valid", name != "test"))
        if found and not {TRAIN, "valid"} <= found.keys():
            raise DataError(
                f"{self.folder}: the splits are {', '.join(order)}; train and valid must be there, "
                "name them with --split train=FOLDER valid=FOLDER"
            )
        return {name: found[name] for name in order}

    def entries(self, vocabulary: str) -> list[str]:
        return next(
            each.vocabularies[vocabulary]
            for each in self.depots.values()
            if vocabulary in each.vocabularies
        )

    def refuse_other_entries(self, vocabulary: str, depots: Iterable[Depot]) -> None:
        """Ids of one vocabulary mean the same in every table."""
        first: Depot | None = None
        for depot in depots:
            found = depot.vocabularies.get(vocabulary)
            if found is None:
                continue
            if first is None:
                first = depot
                continue
            expected = first.vocabularies[vocabulary]
            if found == expected:
                continue
            pairs = zip(expected, found, strict=False)
            row = next((row for row, (a, b) in enumerate(pairs) if a != b), None)
            where = "one has more entries" if row is None else f"entry {row} differs"
            raise DataError(
                f"{first.folder} and {depot.folder}: unequal vocabularies {vocabulary!r} "
                f"({len(expected):,} and {len(found):,} entries, {where}), so that ids do not mean "
                "the same; tokenize them together"
            )

    def column(
        self, depot: Depot, asked: str | None, names: Iterable[str], what: str
    ) -> DepotColumn:
        if asked is not None and asked not in depot.columns:
            raise DataError(f"--{what} {asked}: {depot.folder}: {nearest(asked, depot.columns)}")
        name = asked or next((name for name in names if name in depot.columns), None)
        if name is None or depot.columns[name].scalar is None:
            raise DataError(
                f"{depot.folder}: no column of the {what} among {', '.join(depot.columns)}; name "
                f"it with --{what}"
            )
        return depot.columns[name]
