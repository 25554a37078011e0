"""The table writer: raw data in, columns and their UniTok copy out; the only user of unitok.

UniTok (github.com/Jyonn/UnifiedTokenizer, v4) tokenizes row by row in Python and rebuilds Hugging
Face tokenizers by name when it loads. Here its tables are filled directly with ids computed in
bulk, and every text column uses its ``entities`` tokenizer over the full token vocabulary, so that
a stock ``unitok.UniTok.load`` opens them offline.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from legos.errors import DataError
from legos.files import atomic_folder
from process.columns import ColumnReader, ColumnWriter
from process.encode import Column, Encoded, encode
from process.extend import encode_with, in_ids_of
from process.identity import describe_settings, describe_sources, finished_tables
from process.lists import Lists
from process.progress import progress_bar
from process.raw import Impressions, RawData, TokenizerSpec
from process.summary import print_summary, summarise
from process.tokenization import TextTokenizer, load_tokenizer, make_tokenizer

__all__ = ["Impressions", "RawData", "TokenizerSpec", "new_impressions_tables", "write_tables"]

KEYS = {"items": "item_id", "users": "user_id", "histories": "history"}  # of splits: impression_id
LABELS = ["0", "1"]


def write_tables(
    raw: RawData,
    folder: Path,
    tokenizers: Sequence[TokenizerSpec],
    *,
    force: bool = False,
    unitok: bool = True,
) -> dict[str, Any]:
    """Write a data set's tables, whole or not at all, and print its summary.

    Args:
        raw: the data set.
        folder: where the tables go.
        tokenizers: how texts are cut; every text field gets a column of each.
        force: replace finished tables of other sources or settings.
        unitok: also write the UniTok copy.

    Returns:
        The manifest.

    Raises:
        DataError: the data cannot be written, ``folder`` is taken, or the disk is full.
    """
    raw.check()
    made = _make_tokenizers(raw, tokenizers)
    settings = describe_settings(raw, made, unitok=unitok)
    sources = describe_sources(raw.sources)
    finished = finished_tables(folder, settings, sources, force=force)
    if finished is not None:
        return finished
    encoded = encode(raw, made)
    return _write(raw, encoded, made, folder, settings, sources, unitok=unitok)


def new_impressions_tables(
    tables: Path, raw: RawData, folder: Path, *, force: bool = False
) -> dict[str, Any]:
    """Tables of new impressions in the ids of finished tables, for a model trained on those.

    Items and users of ``tables`` keep their ids and content, new ones are appended; new texts are
    cut by the set's own tokenizers, categories the set does not know become id 0.

    Args:
        tables: the finished tables the model was trained on.
        raw: the new data; its only split becomes ``impressions``.
        folder: where the new tables go.
        force: replace finished tables of other sources or settings.

    Returns:
        The manifest; ``parent`` is the fingerprint of ``tables``.

    Raises:
        DataError: as ``write_tables``; ``tables`` are none, or lack a field's column.
    """
    parent = ColumnReader(tables)
    made = {
        name: load_tokenizer(tables / "columns/tokenizer" / name, entry["source"])
        for name, entry in parent.manifest["tokenizers"].items()
    }
    raw = in_ids_of(parent, raw)
    raw.check()
    fingerprint = parent.manifest["fingerprint"]
    settings = describe_settings(raw, made, unitok=False) | {"parent": fingerprint}
    sources = describe_sources(raw.sources)
    finished = finished_tables(folder, settings, sources, force=force)
    if finished is not None:
        return finished
    encoded = encode_with(parent, raw, made)
    return _write(raw, encoded, made, folder, settings, sources, unitok=False, parent=fingerprint)


def _write(
    raw: RawData,
    encoded: Encoded,
    tokenizers: Mapping[str, TextTokenizer],
    folder: Path,
    settings: dict[str, Any],
    sources: list[dict[str, Any]],
    *,
    unitok: bool,
    **further: Any,
) -> dict[str, Any]:
    with _clear_disk_errors(folder), atomic_folder(folder) as part:
        writer = ColumnWriter(part)
        for table, columns in encoded.tables.items():
            for name, column in columns.items():
                if isinstance(column.values, Lists):
                    writer.lists(table, name, column.values, column.vocabulary)
                else:
                    writer.scalar(table, name, column.values, column.vocabulary)
        for name in (*raw.text_fields, *raw.category_fields):
            writer.texts(name, raw.items[name].tolist())
        for name, entries in encoded.vocabularies.items():
            writer.vocabulary(name, entries)
        for name, tokenizer in tokenizers.items():
            writer.tokenizer(name, tokenizer)
        if unitok:
            texts = {name: tokenizer.vocabulary for name, tokenizer in tokenizers.items()}
            UniTokWriter(encoded.tables, encoded.vocabularies | texts).write(part / "unitok")
        manifest = writer.manifest(
            name=raw.name,
            layout=raw.layout,
            split_rule=raw.split_rule,
            fields=_describe_fields(raw, tokenizers),
            sources=sources,
            settings=settings,
            summary=summarise(raw, encoded),
            oddities=raw.oddities,
            **further,
        )
    print_summary(manifest)
    return manifest


@contextmanager
def _clear_disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DataError(
            f"{folder}: the disk is full ({error.strerror}); nothing was left behind, make room "
            "and run the same command again"
        ) from None


def _make_tokenizers(raw: RawData, specs: Sequence[TokenizerSpec]) -> dict[str, TextTokenizer]:
    taken = {"item_id", "user_id", *raw.category_fields}
    for spec in specs:
        if spec.name in taken or spec.name.startswith("impression_id"):
            raise DataError(
                f"--tokenizer {spec.name}={spec.source}: the name is that of another vocabulary "
                f"({', '.join(sorted(taken))})"
            )
    texts = [raw.items[name].tolist() for name in raw.text_fields]
    return {spec.name: make_tokenizer(spec, texts) for spec in specs}


def _describe_fields(raw: RawData, tokenizers: Mapping[str, TextTokenizer]) -> dict[str, Any]:
    text = {name: {"kind": "text", "tokenizers": list(tokenizers)} for name in raw.text_fields}
    return text | {name: {"kind": "category"} for name in raw.category_fields}


@dataclass(frozen=True)
class _UniTokColumn:
    """How a column is told to UniTok: tokenizer class, vocabulary, ids."""

    tokenizer: str
    vocabulary: str
    values: np.ndarray | Lists


class UniTokWriter:
    """Writes tables as UniTok v4 folders, ids filled in bulk.

    Ids equal the columns' wherever those are ids. ``time`` becomes an id of its own vocabulary of
    seconds; ``oracle`` is left out, since UniTok knows integers only.

    Args:
        tables: all tables.
        vocabularies: entries by name, those of the tokenizers included.
    """

    def __init__(
        self,
        tables: Mapping[str, Mapping[str, Column]],
        vocabularies: Mapping[str, Sequence[str]],
    ) -> None:
        self.tables = tables
        self.ids: dict[str, dict[str, int]] = {}
        self.entries: dict[str, dict[int, str]] = {}
        for name, entries in vocabularies.items():
            self._add(name, entries)
        states = len(tables["histories"]["user_id"].values)
        self._add("history", [str(state) for state in range(states)])
        self._add("label", LABELS)

    def write(self, folder: Path) -> None:
        """Write every table into ``folder/<table>``."""
        with progress_bar("writing the UniTok copy", len(self.tables)) as move:
            for position, table in enumerate(self.tables):
                self._write_table(table, folder / table)
                move(position + 1)

    def _add(self, name: str, entries: Sequence[str]) -> None:
        self.ids[name] = {entry: position for position, entry in enumerate(entries)}
        self.entries[name] = dict(enumerate(entries))

    def _write_table(self, table: str, folder: Path) -> None:
        import unitok  # slow, and not needed with --no-unitok

        key = KEYS.get(table, "impression_id")
        with unitok.UniTok() as ut:
            tokenizers: dict[tuple[str, str], Any] = {}
            for name, column in self._columns(table).items():
                place = (column.tokenizer, column.vocabulary)
                if place not in tokenizers:
                    tokenizers[place] = self._tokenizer(*place)
                if table == "histories" and name == key:
                    ut.add_index_feature(name, tokenizers[place])
                else:
                    ut.add_feature(tokenizers[place], column=name, key=name == key)
                feature = ut.meta.features[name]
                feature.order = 0
                if isinstance(column.values, Lists):
                    feature.max_len = int(column.values.lengths.max(initial=0))
                ut.data[name] = _python_values(column.values)
            ut.status = unitok.Symbols.tokenized
            ut.save(str(folder))
        ut.data.clear()  # UniTok's hubs keep every table for the life of the process

    def _tokenizer(self, kind: str, name: str) -> Any:
        import unitok

        classes = (
            unitok.EntityTokenizer,
            unitok.EntitiesTokenizer,
            unitok.DigitTokenizer,
            unitok.DigitsTokenizer,
        )
        vocabulary = unitok.Vocab(name)
        vocabulary.o2i, vocabulary.i2o = self.ids[name], self.entries[name]
        by_name = {tokenizer.get_classname(): tokenizer for tokenizer in classes}
        return by_name[kind](vocab=vocabulary, tokenizer_id=f"{kind}-{name}")

    def _columns(self, table: str) -> dict[str, _UniTokColumn]:
        columns: dict[str, _UniTokColumn] = {}
        if table == "histories":
            states = np.arange(len(self.entries["history"]))
            columns["history"] = _UniTokColumn("digit", "history", states)
        for name, column in self.tables[table].items():
            values = column.values
            if column.vocabulary is not None:
                kind = "entities" if isinstance(values, Lists) else "entity"
                columns[name] = _UniTokColumn(kind, column.vocabulary, values)
            elif name == "history":
                columns[name] = _UniTokColumn("digit", "history", values)
            elif name == "labels":
                columns[name] = _UniTokColumn("digits", "label", values)
            elif name == "time":
                seconds, found = pd.factorize(np.asarray(values))
                self._add(f"time@{table}", [str(second) for second in found.tolist()])
                columns[name] = _UniTokColumn("entity", f"time@{table}", seconds)
        return columns


def _python_values(values: np.ndarray | Lists) -> list[Any]:
    """What UniTok stores: Python integers, one list a row of a list column."""
    if not isinstance(values, Lists):
        plain: list[int] = values.tolist()
        return plain
    flat, offsets = values.values.tolist(), values.offsets.tolist()
    return [flat[begin:end] for begin, end in pairwise(offsets)]
