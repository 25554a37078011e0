"""The tables of a UniTok folder, found by name or structure, as a data set with its own ids."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from legos.data.ragged import Ragged, RaggedArray, from_lengths
from legos.data.tokenizers import UNKNOWN
from legos.errors import DataError, nearest
from process.goodreads.leave_last_out import SPLIT_RULE, leave_last_out
from process.raw import NAME, TRAIN, Impressions, RawData, UserFields
from process.tokenization import Column, Given
from process.unitok.depots import Depot, DepotColumn, read_depots
from process.unitok.vocabularies import detokenized, foreign_tokenizer, kind_of

ITEMS = ("items", "item", "news", "book", "books", "movie", "movies", "articles", "products")
USERS = ("users", "user")
HISTORY = ("history", "clicks", "his", "click_history")
LABEL = ("click", "label", "clicked", "target")
IMPRESSION = ("imp", "impression_id", "impression", "imp_id", "session", "request_id")
SPLITS = {"dev": "valid", "validation": "valid", "val": "valid"}
SEED = 1  # of negatives where a folder has histories alone


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


def read_unitok(folder: Path, *, name: str, roles: Roles | None = None) -> tuple[RawData, Given]:
    """Read a folder of UniTok tables.

    Returns:
        The data set with detokenized texts, and its columns of ids as they lie there.

    Raises:
        DataError: no such table, a damaged one, or tables whose vocabularies differ.
    """
    return _Reader(folder, read_depots(folder), roles or Roles()).read(name)


class _Reader:
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
        self.oddities: dict[str, int] = {}
        self.given: dict[str, dict[str, Column]] = {"items": {}, "users": {}}
        self.vocabularies: dict[str, list[str]] = {}
        self.tokens: dict[str, list[str]] = {}
        self.lengths: dict[str, int] = {}

    def read(self, name: str) -> tuple[RawData, Given]:
        for vocabulary in (self.item_vocabulary, self.user_vocabulary):
            self._refuse_other_entries(vocabulary, self.depots.values())
        item_ids, user_ids = (
            self._entries(name) for name in (self.item_vocabulary, self.user_vocabulary)
        )
        content = [d for d in self.depots.values() if d.key_vocabulary == self.item_vocabulary]
        texts, categories, values = self._content("items", content, len(item_ids))
        profiles = [
            each for each in self.depots.values()
            if each.key_vocabulary == self.user_vocabulary and each.name not in self.splits.values()
        ]  # fmt: skip
        of_users = self._content("users", profiles, len(user_ids))
        impressions, rule = self._impressions(len(item_ids), len(user_ids))
        raw = RawData(
            name=name,
            layout="unitok",
            items=pd.DataFrame({"item_id": item_ids, **values}, dtype=object),
            text_fields=texts,
            category_fields=categories,
            users=user_ids,
            splits=impressions,
            split_rule=rule,
            sources=[path for depot in self.depots.values() for path in depot.files],
            oddities={what: count for what, count in self.oddities.items() if count},
            settings={
                "lengths": self.lengths,
                "roles": _plain(self.roles),
                "embed": self._embed(),
            },
            user_fields=UserFields(
                pd.DataFrame(of_users[2], index=range(len(user_ids)), dtype=object),
                of_users[0],
                of_users[1],
            )
            if of_users[2]
            else None,
        )
        clash = self.tokens.keys() & (self.vocabularies.keys() | {"item_id", "user_id"})
        if clash:
            raise DataError(
                f"{self.folder}: vocabulary {min(clash)!r} is that of a text and of a category"
            )
        tokenizers = {label: foreign_tokenizer(found) for label, found in self.tokens.items()}
        return raw, Given(self.given, self.vocabularies, tokenizers)

    def _embed(self) -> str:
        """The embed YAML whose vectors the vocabularies of all texts have; "" where none has."""
        kinds = {kind_of(entries) for entries in self.tokens.values()}
        return "minilm-token" if kinds == {"wordpiece"} else ""

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
        return self._column(depot, self.roles.user, (), "user").vocabulary

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

    def _entries(self, vocabulary: str) -> list[str]:
        return next(
            each.vocabularies[vocabulary]
            for each in self.depots.values()
            if vocabulary in each.vocabularies
        )

    def _refuse_other_entries(self, vocabulary: str, depots: Iterable[Depot]) -> None:
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

    def _content(
        self, table: str, depots: list[Depot], count: int
    ) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, list[str]]]:
        """Text fields, category fields and the words of both; ids go to ``given``."""
        texts: dict[str, list[str]] = {}
        categories: dict[str, list[str]] = {}
        for depot in depots:
            rows = depot.columns[depot.key].scalar
            assert rows is not None  # noqa: S101  # every key is a scalar
            if len(np.unique(rows)) < len(rows):
                raise DataError(f"{depot.folder}: key {depot.key!r} names a row twice")
            self.oddities[f"{table} without a row in {depot.name}"] = count - len(rows)
            place = np.full(count, -1, dtype=np.int64)
            place[rows] = np.arange(len(rows))
            for name, column in depot.columns.items():
                field_name = re.sub(r"\W", "_", name.split("@")[0])
                if name == depot.key or (table == "users" and name == self.history):
                    continue
                if column.vocabulary == self.item_vocabulary and column.lists is not None:
                    self._give(table, name, _placed(column.lists, place), "item_id")
                elif column.lists is not None:
                    texts[field_name] = self._text(table, depot, field_name, column, place)
                else:
                    categories[field_name] = self._category(table, depot, field_name, column, place)
        return (
            tuple(name for name in texts if name not in categories),
            tuple(categories),
            texts | categories,
        )

    def _give(self, table: str, name: str, values: Any, vocabulary: str | None) -> None:
        if name in self.given[table]:
            raise DataError(f"{self.folder}: {table} have two columns {name!r}")
        self.given[table][name] = Column(values, vocabulary)

    def _text(
        self, table: str, depot: Depot, name: str, column: DepotColumn, place: np.ndarray
    ) -> list[str]:
        label, lists = column.vocabulary, column.lists
        assert lists is not None  # noqa: S101  # said by the caller
        if not NAME.fullmatch(label):
            raise DataError(f"{depot.folder}: vocabulary {label!r} cannot name a tokenizer")
        self._refuse_other_entries(label, self.depots.values())
        self.tokens[label] = depot.vocabularies[label]
        placed = _placed(lists, place)
        self._give(table, f"{name}@{label}", placed, label)
        self.lengths[f"{name}@{label}"] = max(1, abs(column.max_length))
        return detokenized(placed, depot.vocabularies[label], column.separator)

    def _category(
        self, table: str, depot: Depot, name: str, column: DepotColumn, place: np.ndarray
    ) -> list[str]:
        entries, values = depot.vocabularies[column.vocabulary], column.scalar
        assert values is not None  # noqa: S101  # said by the caller
        if UNKNOWN not in entries:
            entries = [*entries, UNKNOWN]  # behind them, so that their ids stay
        if self.vocabularies.setdefault(name, entries) != entries:
            raise DataError(f"{depot.folder}: another table has a category {name!r}, too")
        unknown = entries.index(UNKNOWN)
        ids = np.where(place >= 0, values[place], unknown).astype(np.int32)
        self._give(table, name, ids, name)
        return ["" if row == unknown else entries[row] for row in ids.tolist()]

    def _impressions(self, items: int, users: int) -> tuple[dict[str, Impressions], str]:
        histories = self._users_histories(users)
        if not self.splits:
            return self._held_out(histories, items), f"{SPLIT_RULE}; negatives by seed {SEED}"
        found = {}
        for split, folder in self.splits.items():
            depot = self.depots[folder]
            lists = depot.columns.get("candidates")
            own = lists is not None and lists.lists is not None
            found[split] = self._lists(split, depot) if own else self._rows(depot, histories)
        return found, "as the UniTok folder has it"

    def _held_out(self, histories: RaggedArray, items: int) -> dict[str, Impressions]:
        """Impressions out of histories alone, of the users with three items or more."""
        kept = np.flatnonzero(histories.lengths >= 3)
        self.oddities["users with fewer than 3 items, in no split"] = len(histories) - len(kept)
        splits = leave_last_out(histories.select(kept), items, SEED)
        return {
            name: replace(rows, user=kept[rows.user].astype(np.int32))
            for name, rows in splits.items()
        }

    def _users_histories(self, count: int) -> RaggedArray:
        nothing = from_lengths(np.zeros(0, np.int64), np.zeros(count, np.int64))
        if self.users is None or self.history is None:
            return nothing
        lists = self.users.columns[self.history].lists
        rows = self.users.columns[self.users.key].scalar
        assert lists is not None and rows is not None  # noqa: S101, PT018
        place = np.full(count, -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        return _placed(lists, place)

    def _column(
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

    def _rows(self, depot: Depot, histories: RaggedArray) -> Impressions:
        """One row a shown item: grouped by the impression that it carries, or by user."""

        def of(vocabulary: str) -> list[str]:
            return [name for name, c in depot.columns.items() if c.vocabulary == vocabulary]

        user, item = (
            _ids(self._column(depot, asked, of(vocabulary), what))
            for asked, vocabulary, what in (
                (self.roles.user, self.user_vocabulary, "user"),
                (self.roles.item, self.item_vocabulary, "item"),
            )
        )
        clicks = self._column(depot, self.roles.label, LABEL, "label")
        entries = depot.vocabularies[clicks.vocabulary]
        if not set(entries) <= {"0", "1"}:
            raise DataError(f"{depot.folder}: labels are {entries[:5]}, expected 0 and 1")
        labels = np.array([int(entry) for entry in entries])[_ids(clicks)]
        names = [self.roles.impression] if self.roles.impression else IMPRESSION
        known = any(name in depot.columns for name in IMPRESSION) or self.roles.impression
        groups = self._column(depot, self.roles.impression, names, "impression") if known else None
        group = user if groups is None else _ids(groups)
        entry = (
            self._entries(self.user_vocabulary)
            if groups is None
            else depot.vocabularies[groups.vocabulary]
        )
        code, distinct = pd.factorize(group)
        order = np.argsort(code, kind="stable")
        counts = np.bincount(code)
        begins = np.cumsum([0, *counts[:-1]])
        owner = user[order[begins]]
        if (owner[code] != user).any():
            row = int((owner[code] != user).argmax())
            raise DataError(
                f"{depot.folder}: impression {entry[group[row]]!r} has several users; group by "
                "another column: --impression COLUMN"
            )
        states = histories.select(owner)
        return Impressions(
            impression_id=np.array([entry[row] for row in distinct.tolist()], dtype=object),
            user=owner.astype(np.int32),
            time=np.full(len(owner), -1, dtype=np.int64),
            history_values=states.values.astype(np.int32),
            history_offsets=states.offsets,
            candidate_values=item[order].astype(np.int32),
            candidate_offsets=np.cumsum([0, *counts]).astype(np.int64),
            labels=labels[order].astype(np.int8),
        )

    def _lists(self, split: str, depot: Depot) -> Impressions:
        """One row an impression, as our own copy has it."""
        lists, labels = depot.columns["candidates"].lists, self._listed(depot, "labels")
        states, of = self.histories, self._column(depot, None, ("history",), "history")
        if lists is None or states is None or states.columns.get("items") is None:
            raise DataError(f"{depot.folder}: impressions, and no table histories of theirs")
        history, owner = self._listed(states, "items"), _ids(states.columns["user_id"])
        self.given["histories"] = {
            "user_id": Column(owner.astype(np.int32), "user_id"),
            "items": Column(Ragged(history.values.astype(np.int32), history.offsets), "item_id"),
        }
        self.given[split] = {"history": Column(_ids(of).astype(np.int32))}
        read = history.select(_ids(of))
        time = np.full(len(depot), -1, dtype=np.int64)
        if (when := depot.columns.get("time")) is not None:
            seconds = np.array([int(entry) for entry in depot.vocabularies[when.vocabulary]])
            time = seconds.astype(np.int64)[_ids(when)]
        key = depot.columns[depot.key]
        names = np.array(depot.vocabularies[key.vocabulary], dtype=object)[_ids(key)]
        return Impressions(
            impression_id=names,
            user=_ids(depot.columns["user_id"]).astype(np.int32),
            time=time,
            history_values=read.values.astype(np.int32),
            history_offsets=read.offsets,
            candidate_values=lists.values.astype(np.int32),
            candidate_offsets=lists.offsets,
            labels=labels.values.astype(np.int8),
        )

    def _listed(self, depot: Depot, name: str) -> RaggedArray:
        column = depot.columns.get(name)
        if column is None or column.lists is None:
            raise DataError(f"{depot.folder}: no column of lists {name!r}")
        return column.lists


def _ids(column: DepotColumn) -> np.ndarray:
    assert column.scalar is not None  # noqa: S101  # said by the caller
    return column.scalar


def _placed(lists: RaggedArray, place: np.ndarray) -> RaggedArray:
    """Rows in the order of the vocabulary; empty where a table has none."""
    none = from_lengths(lists.values[:0], np.zeros(1, dtype=np.int64))
    rows = Ragged(lists.values, np.concatenate([lists.offsets, lists.offsets[-1:]]))
    found = rows.select(np.where(place >= 0, place, len(lists)))
    return Ragged(found.values.astype(np.int32), found.offsets) if len(place) else none


def _plain(roles: Roles) -> dict[str, Any]:
    return {key: value for key, value in vars(roles).items() if value}
