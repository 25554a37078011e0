"""The tables of a UniTok folder, found by name or structure, as a data set with its own ids."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from legos.data.ragged import Ragged, RaggedArray, from_lengths
from legos.data.tokenizers import UNKNOWN
from legos.errors import DataError
from process.goodreads.leave_last_out import SPLIT_RULE, leave_last_out
from process.raw import NAME, Impressions, RawData, UserFields
from process.tokenization import Column, Given
from process.unitok.depots import Depot, DepotColumn, read_depots
from process.unitok.roles import IMPRESSION, LABEL, Folder, Roles
from process.unitok.vocabularies import detokenized, foreign_tokenizer

SEED = 1  # of negatives where a folder has histories alone


def read_unitok(folder: Path, *, name: str, roles: Roles | None = None) -> tuple[RawData, Given]:
    """Read a folder of UniTok tables.

    Returns:
        The data set with detokenized texts, and its columns of ids as they lie there.

    Raises:
        DataError: no such table, a damaged one, or tables whose vocabularies differ.
    """
    return _Reader(Folder(folder, read_depots(folder), roles or Roles())).read(name)


class _Reader:
    def __init__(self, tables: Folder) -> None:
        self.tables, self.folder, self.depots = tables, tables.folder, tables.depots
        self.oddities: dict[str, int] = {}
        self.given: dict[str, dict[str, Column]] = {"items": {}, "users": {}}
        self.vocabularies: dict[str, list[str]] = {}
        self.tokens: dict[str, list[str]] = {}
        self.lengths: dict[str, int] = {}

    def read(self, name: str) -> tuple[RawData, Given]:
        of_items, of_readers = self.tables.item_vocabulary, self.tables.user_vocabulary
        for vocabulary in (of_items, of_readers):
            self.tables.refuse_other_entries(vocabulary, self.depots.values())
        item_ids, user_ids = map(self.tables.entries, (of_items, of_readers))
        content = [each for each in self.depots.values() if each.key_vocabulary == of_items]
        texts, categories, values = self._content("items", content, len(item_ids))
        shown = self.tables.splits.values()
        profiles = [
            each
            for each in self.depots.values()
            if each.key_vocabulary == of_readers and each.name not in shown
        ]
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
            settings={"lengths": self.lengths, "roles": _plain(self.tables.roles)},
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
                if name == depot.key or (table == "users" and name == self.tables.history):
                    continue
                if column.vocabulary == self.tables.item_vocabulary and column.lists is not None:
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
        self.tables.refuse_other_entries(label, self.depots.values())
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
        if not self.tables.splits:
            return self._held_out(histories, items), f"{SPLIT_RULE}; negatives by seed {SEED}"
        found = {}
        for split, folder in self.tables.splits.items():
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
        if self.tables.users is None or self.tables.history is None:
            return nothing
        lists = self.tables.users.columns[self.tables.history].lists
        rows = self.tables.users.columns[self.tables.users.key].scalar
        assert lists is not None and rows is not None  # noqa: S101, PT018
        place = np.full(count, -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        return _placed(lists, place)

    def _rows(self, depot: Depot, histories: RaggedArray) -> Impressions:
        """One row a shown item: grouped by the impression that it carries, or by user."""

        def of(vocabulary: str) -> list[str]:
            return [name for name, c in depot.columns.items() if c.vocabulary == vocabulary]

        user, item = (
            _ids(self.tables.column(depot, asked, of(vocabulary), what))
            for asked, vocabulary, what in (
                (self.tables.roles.user, self.tables.user_vocabulary, "user"),
                (self.tables.roles.item, self.tables.item_vocabulary, "item"),
            )
        )
        clicks = self.tables.column(depot, self.tables.roles.label, LABEL, "label")
        entries = depot.vocabularies[clicks.vocabulary]
        if not set(entries) <= {"0", "1"}:
            raise DataError(f"{depot.folder}: labels are {entries[:5]}, expected 0 and 1")
        labels = np.array([int(entry) for entry in entries])[_ids(clicks)]
        asked = self.tables.roles.impression
        names = [asked] if asked else IMPRESSION
        known = asked or any(name in depot.columns for name in IMPRESSION)
        groups = self.tables.column(depot, asked, names, "impression") if known else None
        group = user if groups is None else _ids(groups)
        entry = (
            self.tables.entries(self.tables.user_vocabulary)
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
        states, of = self.tables.histories, self.tables.column(depot, None, ("history",), "history")
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
