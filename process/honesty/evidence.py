"""What the honesty report reads: the tables of a data set in memory, and its splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from legos.data.ragged import Ragged, RaggedArray
from legos.data.tokenizers import TextTokenizer
from legos.scratch import pages, release
from process.columns import ColumnReader
from process.derived import columns_of
from process.raw import TRAIN, RawData
from process.ties import TimeTies
from process.tokenization import Column, Encoded


@dataclass(frozen=True)
class Evidence:
    """A data set's tables.

    Attributes:
        tables: table -> column -> values.
        vocabularies: by name; position = id.
        texts: field of the items, or ``table.field`` -> one text a row.
        time_ties: as the reader counted them on interactions, of which tables keep only some.
    """

    tables: Mapping[str, Mapping[str, Column]]
    vocabularies: Mapping[str, Sequence[str]]
    texts: Mapping[str, Sequence[str]]
    time_ties: TimeTies | None = None

    @classmethod
    def of_raw(
        cls, raw: RawData, encoded: Encoded, tokenizers: Mapping[str, TextTokenizer]
    ) -> Evidence:
        """The evidence of tables that are about to be written."""
        texts = raw.texts
        for table, further in raw.further.items():
            texts |= {f"{table}.{name}": column for name, column in further.texts.items()}
        tokens = {name: tokenizer.vocabulary for name, tokenizer in tokenizers.items()}
        return cls(encoded.tables, {**encoded.vocabularies, **tokens}, texts, raw.time_ties)

    @classmethod
    def of_tables(cls, reader: ColumnReader) -> Evidence:
        """The evidence of finished tables."""
        manifest = reader.manifest
        ties = manifest.get("summary", {}).get("time_ties")
        names = {"item_id", *manifest["tokenizers"]} & set(manifest["vocabularies"])
        texts: dict[str, Sequence[str]] = {name: reader.texts(name) for name in reader.text_fields}
        for table, fields in manifest.get("table_fields", {}).items():
            texts |= {f"{table}.{name}": reader.texts(name, table=table) for name in fields}
        return cls(
            {table: columns_of(reader, table) for table in manifest["tables"]},
            {name: reader.vocabulary(name) for name in names},
            texts,
            TimeTies(ties["interactions"], ties["tied"]) if ties else None,
        )

    @property
    def num_items(self) -> int:
        """Rows of the item table."""
        return len(self.vocabularies["item_id"])

    @property
    def splits(self) -> list[str]:
        """Tables with candidates."""
        return [name for name, columns in self.tables.items() if "candidates" in columns]

    def scalar(self, table: str, column: str) -> np.ndarray:
        """A column of one value a row."""
        values = self.tables[table][column].values
        assert isinstance(values, np.ndarray)  # noqa: S101  # a caller's mistake, not a user's
        return values

    def lists(self, table: str, column: str) -> RaggedArray:
        """A column of one list a row."""
        values = self.tables[table][column].values
        assert isinstance(values, Ragged)  # noqa: S101  # a caller's mistake, not a user's
        return values

    def split(self, name: str) -> SplitView:
        """A split with its histories."""
        return SplitView(
            user=self.scalar(name, "user_id").astype(np.int64),
            time=self.scalar(name, "time"),
            history=self.scalar(name, "history"),
            histories=self.lists("histories", "items"),
            candidates=self.lists(name, "candidates"),
            labels=self.lists(name, "labels").values,
        )

    @property
    def train(self) -> SplitView | None:
        """The train split, if there is one."""
        return self.split(TRAIN) if TRAIN in self.splits else None


@dataclass(frozen=True)
class SplitView:
    """One split: ``n`` impressions, ``M`` candidates.

    Attributes:
        user: ``(n,)`` int64.
        time: ``(n,)`` int64 Unix seconds, -1 = unknown.
        history: ``(n,)`` row of ``histories``.
        histories: every history state, oldest first.
        candidates: item rows of each impression.
        labels: ``(M,)`` 1 click, 0 no click, -1 unlabelled.
    """

    user: np.ndarray
    time: np.ndarray
    history: np.ndarray
    histories: RaggedArray
    candidates: RaggedArray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    @property
    def clicks(self) -> RaggedArray:
        """Items clicked in each impression."""
        places = np.flatnonzero(self.labels == 1)
        offsets = np.searchsorted(places, self.candidates.offsets)
        return Ragged(self.candidates.values[places], offsets)

    def take(self, rows: np.ndarray) -> SplitView:
        """Some impressions ``(k,)`` int64, in the order asked."""
        labels = Ragged(self.labels, self.candidates.offsets).select(rows).values
        return SplitView(
            self.user[rows],
            self.time[rows],
            self.history[rows],
            self.histories,
            self.candidates.select(rows),
            labels,
        )

    def last_read(self) -> np.ndarray:
        """``(n,)`` int64 the newest item of each history, -1 where it is empty."""
        begins, ends = self.histories.offsets[:-1], self.histories.offsets[1:]
        last = np.full(len(begins), -1, dtype=np.int64)
        filled = np.flatnonzero(ends > begins)
        for rows in pages(filled):
            last[rows] = self.histories.values[ends[rows] - 1]
            release(self.histories.values)
        newest: np.ndarray = last[self.history]
        return newest
