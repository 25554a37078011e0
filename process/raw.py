"""What every reader of raw data hands to the table writer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd

from legos.data.manifest import Negatives
from legos.data.ragged import Ragged, RaggedArray, aranges, offsets_of
from legos.errors import DataError
from legos.scratch import windows
from process.ties import TimeTies

UNLABELLED = -1
TRAIN = "train"
NEVER_SPLITS = ("items", "users", "histories", "vocabulary", "tokenizer")
_BLOCK = 1 << 16  # histories gathered at once; changes memory, not results
NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class TokenizerSpec:
    """Which tokenizer cuts the texts.

    Attributes:
        name: what its columns are called: ``title@<name>``.
        source: ``words`` (a vocabulary of the set's own words), ``minilm`` (packaged), or the
            folder of a Hugging Face tokenizer.
    """

    name: str
    source: str


@dataclass(frozen=True)
class Numbered(Sequence[str]):
    """The names "1", "2", ... of ``number`` impressions that have none; made when asked for."""

    number: int

    def __len__(self) -> int:
        return self.number

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        numbers = range(1, self.number + 1)[index]
        return str(numbers) if isinstance(numbers, int) else list(map(str, numbers))


@dataclass(frozen=True)
class Impressions:
    """The impressions of one split; ``n`` impressions, ``M`` candidates, ``P`` history entries.

    Attributes:
        impression_id: ``(n,)`` str objects, unique within the split, or numbers from 1 on.
        user: ``(n,)`` int32 row of ``RawData.users``.
        time: ``(n,)`` int64 Unix seconds, -1 = unknown.
        history_values: ``(P,)`` int32 item rows, oldest first.
        history_offsets: ``(n + 1,)`` int64: sums of the lengths of the histories.
        candidate_values: ``(M,)`` int32 item rows.
        candidate_offsets: ``(n + 1,)`` int64.
        labels: ``(M,)`` int8: 1 click, 0 no click, -1 unlabelled.
        oracle: ``(M,)`` float32 true click probability of a generator, or None.
        history_starts: ``(n,)`` int64 where each history begins in ``history_values``, so that
            the histories of a user share them; None: they lie end to end.
        negatives: where the items that were not clicked come from.
    """

    impression_id: np.ndarray | Numbered
    user: np.ndarray
    time: np.ndarray
    history_values: np.ndarray
    history_offsets: np.ndarray
    candidate_values: np.ndarray
    candidate_offsets: np.ndarray
    labels: np.ndarray
    oracle: np.ndarray | None = None
    history_starts: np.ndarray | None = None
    negatives: Negatives = "given"

    def __len__(self) -> int:
        return len(self.impression_id)

    @property
    def histories(self) -> RaggedArray:
        """The items of each history."""
        return self.histories_of(np.arange(len(self)))

    def histories_of(self, rows: np.ndarray) -> RaggedArray:
        """The items of some histories ``(k,)``, in the order asked; gathered block by block."""
        starts = self.history_starts
        begins = (self.history_offsets[:-1] if starts is None else starts)[rows]
        offsets = offsets_of(self.history_lengths[rows])
        values = np.empty(int(offsets[-1]), dtype=np.int32)
        for first in range(0, len(rows), _BLOCK):
            part = slice(first, first + _BLOCK)
            places = aranges(begins[part], np.diff(offsets[first : first + _BLOCK + 1]))
            last = min(first + _BLOCK, len(rows))
            values[offsets[first] : offsets[last]] = self.history_values[places.values]
        return Ragged(values, offsets)

    @property
    def candidate_counts(self) -> np.ndarray:
        """``(n,)`` int64 candidates of each impression."""
        return np.diff(self.candidate_offsets)

    @property
    def history_lengths(self) -> np.ndarray:
        """``(n,)`` int64 length of each history."""
        return np.diff(self.history_offsets)


@dataclass(frozen=True)
class Unasked:
    """Events of users who are in no impression; they have a history when lists are made.

    Attributes:
        users: ``(n,)`` int32 rows of ``RawData.users``, ascending.
        items: n rows of item rows (int32), oldest first.
    """

    users: np.ndarray
    items: RaggedArray


@dataclass(frozen=True)
class FurtherTable:
    """A table beside items, users, histories and splits; ``n`` rows.

    Attributes:
        columns: ``(n,)`` scalars by name.
        vocabularies: column -> the vocabulary its integers are ids of: ``item_id``, ``user_id`` or
            one of ``entries``.
        entries: vocabularies of this table alone, by name.
        texts: ``n`` strings by field; tokenized as the items' texts are.
    """

    columns: Mapping[str, np.ndarray]
    vocabularies: Mapping[str, str] = field(default_factory=dict)
    entries: Mapping[str, list[str]] = field(default_factory=dict)
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


@dataclass(frozen=True)
class UserFields:
    """What users say of themselves.

    Attributes:
        values: one row a user; texts and categories are str, "" = missing, numbers float32, NaN =
            unknown.
        texts, categories, numbers: its columns by kind.
    """

    values: pd.DataFrame
    texts: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()


@dataclass
class RawData:
    """A whole data set, read and checked, items and users as row numbers.

    Attributes:
        name: name of the data set.
        layout: where it comes from: ``mind``, ``goodreads-once``, ``amazon-reviews``, ...
        items: one row an item: ``item_id`` (unique str), the text and category columns (str, "" =
            missing) and the number columns (float32, NaN = unknown).
        text_fields: columns of ``items``, or of ``item_texts``, that are tokenized.
        category_fields: columns of ``items`` that become one id.
        users: the user ids, unique.
        splits: impressions by split name; ``train`` first.
        split_rule: one sentence: how the splits came about.
        sources: the raw files read; their hashes go into the manifest.
        oddities: what was odd in the raw data, and how often.
        settings: options of the reader that change the result; other settings = other tables.
        further: tables beside these, by name.
        time_ties: interactions of a user at one time, which a seeded hash orders; None where the
            source orders all interactions itself.
        item_texts: text columns that are not in ``items``, because they lie on disk.
        number_fields: columns of ``items`` that stay numbers.
        user_fields: None where users have none.
        source_columns: what the files call ``user_id``, ``item_id`` and the fields of items.
        unasked: histories of users without an impression, where splits share arrays of histories.
    """

    name: str
    layout: str
    items: pd.DataFrame
    text_fields: tuple[str, ...]
    category_fields: tuple[str, ...]
    users: list[str] | np.ndarray
    splits: dict[str, Impressions]
    split_rule: str
    sources: list[Path]
    oddities: dict[str, int] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    further: Mapping[str, FurtherTable] = field(default_factory=dict)
    time_ties: TimeTies | None = None
    item_texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    number_fields: tuple[str, ...] = ()
    user_fields: UserFields | None = None
    source_columns: Mapping[str, str] = field(default_factory=dict)
    unasked: Unasked | None = None

    @property
    def texts(self) -> dict[str, Sequence[str]]:
        """By text field one text an item."""
        return {
            name: self.item_texts[name] if name in self.item_texts else self.items[name].tolist()
            for name in self.text_fields
        }

    def check(self) -> None:
        """Refuse data that cannot become tables.

        Raises:
            DataError: names the column, split or id that is wrong.
        """
        _check_name("name", self.name)
        for column in ("item_id", *self.text_fields, *self.category_fields, *self.number_fields):
            if column not in self.items and column not in self.item_texts:
                raise DataError(f"{self.name}: items have no column {column!r}")
        _check_names(
            "item", ("item_id", *self.text_fields, *self.category_fields, *self.number_fields)
        )
        _check_numbers(f"{self.name}: items", self.items, self.number_fields)
        if self.user_fields is not None:
            _check_user_fields(self.name, self.user_fields, len(self.users))
        for label, values in (("item", self.items["item_id"]), ("user", pd.Series(self.users))):
            twice = values[values.duplicated()]
            if len(twice):
                raise DataError(f"{self.name}: {label} id {twice.iloc[0]!r} occurs twice")
        if len(self.items) == 0 or not self.splits:
            raise DataError(f"{self.name}: no items or no splits, nothing to write")
        for split, impressions in self.splits.items():
            _check_name("split", split)
            _check_impressions(split, impressions, len(self.items), len(self.users))
        sizes = {"item_id": len(self.items), "user_id": len(self.users)}
        for name, table in self.further.items():
            _check_name("table", name)
            if name in self.splits:
                raise DataError(f"table {name!r}: a split has this name")
            _check_further(name, table, sizes)


def _check_name(what: str, name: str) -> None:
    if not NAME.fullmatch(name) or name.startswith(".") or name in NEVER_SPLITS:
        raise DataError(
            f"{what} {name!r} cannot be used: letters, digits, '.', '_' and '-' only, not one of "
            f"{', '.join(NEVER_SPLITS)}"
        )


def _check_user_fields(name: str, fields: UserFields, num_users: int) -> None:
    if len(fields.values) != num_users:
        raise DataError(f"{name}: fields of {len(fields.values)} users, expected {num_users}")
    named = (*fields.texts, *fields.categories, *fields.numbers)
    _check_names("user", ("user_id", *named))
    for column in named:
        if column not in fields.values:
            raise DataError(f"{name}: users have no column {column!r}")
    _check_numbers(f"{name}: users", fields.values, fields.numbers)


def _check_names(what: str, names: tuple[str, ...]) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{what} field {twice[0]!r} is given twice")


def _check_numbers(where: str, values: pd.DataFrame, columns: tuple[str, ...]) -> None:
    for column in columns:
        numbers = values[column].to_numpy()
        if numbers.dtype != np.float32:
            raise DataError(f"{where}: number field {column!r} is {numbers.dtype}, not float32")
        if np.isinf(numbers).any():
            row = int(np.isinf(numbers).argmax())
            raise DataError(f"{where}: number field {column!r} is infinite in row {row}")


def _check_impressions(split: str, rows: Impressions, num_items: int, num_users: int) -> None:
    n, m = len(rows), len(rows.candidate_values)
    if n == 0:
        raise DataError(f"split {split!r} has no impressions")
    lengths = {
        "user": (len(rows.user), n),
        "time": (len(rows.time), n),
        "history_offsets": (len(rows.history_offsets), n + 1),
        "candidate_offsets": (len(rows.candidate_offsets), n + 1),
        "labels": (len(rows.labels), m),
        "oracle": (m if rows.oracle is None else len(rows.oracle), m),
        "last candidate offset": (int(rows.candidate_offsets[-1]), m),
        "histories": (_end_of_histories(rows), len(rows.history_values)),
    }
    for name, (found, expected) in lengths.items():
        if found != expected:
            raise DataError(f"split {split!r}: {name} is {found}, expected {expected}")
    for name, values, limit in (
        ("user", rows.user, num_users),
        ("history_values", rows.history_values, num_items),
        ("candidate_values", rows.candidate_values, num_items),
    ):
        if not all(0 <= part.min() <= part.max() < limit for part in windows(values)):
            raise DataError(f"split {split!r}: {name} holds rows outside 0 to {limit - 1}")
    if (rows.candidate_counts <= 0).any():
        row = int(np.flatnonzero(rows.candidate_counts <= 0)[0])
        raise DataError(
            f"split {split!r}: impression {rows.impression_id[row]!r} has no candidates"
        )
    if isinstance(rows.impression_id, Numbered):
        return
    twice = pd.Series(rows.impression_id).duplicated()
    if twice.any():
        raise DataError(
            f"split {split!r}: impression id {rows.impression_id[int(twice.argmax())]!r} "
            "occurs twice"
        )


def _end_of_histories(rows: Impressions) -> int:
    """Where the last history ends; of shared ones no further than what there is to share."""
    if rows.history_starts is None:
        return int(rows.history_offsets[-1])
    ends = rows.history_starts + rows.history_lengths
    return max(int(ends.max()), len(rows.history_values))


def _check_further(name: str, table: FurtherTable, sizes: Mapping[str, int]) -> None:
    sizes = {**sizes, **{vocabulary: len(found) for vocabulary, found in table.entries.items()}}
    rows = {column: len(values) for column, values in table.columns.items()}
    rows |= {column: len(texts) for column, texts in table.texts.items()}
    for column, found in rows.items():
        if found != len(table):
            raise DataError(f"table {name!r}: {column} has {found} rows, expected {len(table)}")
    for column, vocabulary in table.vocabularies.items():
        values, limit = table.columns[column], sizes[vocabulary]
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) < limit:
            raise DataError(f"table {name!r}: {column} holds ids outside 0 to {limit - 1}")
