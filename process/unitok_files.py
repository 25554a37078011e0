"""UniTok v4's files, written in bulk, so that a stock ``unitok.UniTok.load`` opens the tables.

UniTok (github.com/Jyonn/UnifiedTokenizer) tokenizes row by row in Python and rebuilds Hugging Face
tokenizers by name when it loads. Here its files are written directly from the ids of the columns,
and every text column uses its ``entities`` tokenizer over the full token vocabulary, so that no
hub is needed. The package itself is not imported: it brings in transformers, torch and nltk, which
would take a third of the time of processing MIND-small.
"""

from __future__ import annotations

import gc
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from legos.data.ragged import Ragged, RaggedArray
from legos.files import write_json
from legos.progress import progress_bar
from process.encode import Column

KEYS = {"items": "item_id", "users": "user_id", "histories": "history"}
SPLIT_KEY = "impression_id"
LABELS = ["0", "1"]
UNITOK_VERSION = "unidep-v4.1"
INDEX = "<index>"  # how UniTok's meta.json calls the row number


@dataclass(frozen=True)
class _UniTokColumn:
    """How a column is told to UniTok: tokenizer class, vocabulary, ids."""

    tokenizer: str
    vocabulary: str
    values: np.ndarray | RaggedArray


class UniTokWriter:
    """Writes tables as UniTok v4 folders: ``meta.json``, ``<vocabulary>.vocab``, ``data.pkl``.

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
        states = len(tables["histories"]["user_id"].values)
        self.vocabularies = {
            **vocabularies,
            "history": [str(state) for state in range(states)],
            "label": LABELS,
        }

    def write(self, folder: Path) -> None:
        """Write every table into ``folder/<table>``."""
        with progress_bar("writing the UniTok copy", len(self.tables)) as bar:
            for position, table in enumerate(self.tables):
                self.write_table(folder, table)
                bar.move(position + 1)

    def write_table(self, folder: Path, table: str) -> None:
        """Write one table into ``folder/<table>``."""
        with _no_garbage_collection():
            self._write_table(folder / table, self._columns(table))

    def _write_table(self, folder: Path, columns: Mapping[str, _UniTokColumn]) -> None:
        folder.mkdir(parents=True)
        names = dict.fromkeys(column.vocabulary for column in columns.values())
        for name in names:
            _dump(folder / f"{name}.vocab", list(self.vocabularies[name]))
        _dump(
            folder / "data.pkl",
            {name: _python_values(column.values) for name, column in columns.items()},
        )
        tokenizers = {_tokenizer_id(column): column for column in columns.values()}
        key = KEYS.get(folder.name, SPLIT_KEY)
        meta = {
            "version": UNITOK_VERSION,
            "note": "written by legos; open with unitok.UniTok.load",
            "website": "https://unitok.github.io",
            "created_at": None,
            "modified_at": None,
            "vocabularies": [
                {"name": name, "vocab_size": len(self.vocabularies[name])} for name in names
            ],
            "tokenizers": [
                _describe_tokenizer(name, column) for name, column in tokenizers.items()
            ],
            "features": [
                _describe_feature(name, column, is_key=name == key, order=order)
                for order, (name, column) in enumerate(columns.items())
            ],
        }
        write_json(folder / "meta.json", meta)

    def _columns(self, table: str) -> dict[str, _UniTokColumn]:
        columns: dict[str, _UniTokColumn] = {}
        if table == "histories":
            states = np.arange(len(self.vocabularies["history"]))
            columns["history"] = _UniTokColumn("digit", "history", states)
        for name, column in self.tables[table].items():
            values = column.values
            if column.vocabulary is not None:
                kind = "entities" if isinstance(values, Ragged) else "entity"
                columns[name] = _UniTokColumn(kind, column.vocabulary, values)
            elif name == "history":
                columns[name] = _UniTokColumn("digit", "history", values)
            elif name == "labels":
                columns[name] = _UniTokColumn("digits", "label", values)
            elif name == "time":
                seconds, found = pd.factorize(np.asarray(values))
                self.vocabularies[f"time@{table}"] = [str(second) for second in found.tolist()]
                columns[name] = _UniTokColumn("entity", f"time@{table}", seconds)
        return columns


def _tokenizer_id(column: _UniTokColumn) -> str:
    return f"{column.tokenizer}-{column.vocabulary}"


def _describe_tokenizer(name: str, column: _UniTokColumn) -> dict[str, Any]:
    """As ``unitok.tokenizer.BaseTokenizer.json``."""
    digits = column.tokenizer in ("digit", "digits")
    return {
        "tokenizer_id": name,
        "vocab": column.vocabulary,
        "classname": column.tokenizer,
        "params": {"vocab_size": None} if digits else {},
    }


def _describe_feature(
    name: str, column: _UniTokColumn, *, is_key: bool, order: int
) -> dict[str, Any]:
    """As ``unitok.feature.Feature.json``; truncate 0 = a list of any length."""
    lists = isinstance(column.values, Ragged)
    return {
        "name": name,
        "column": INDEX if is_key and column.tokenizer == "digit" else name,
        "tokenizer": _tokenizer_id(column),
        "truncate": 0 if lists else None,
        "order": order,
        "key": is_key,
        "max_len": int(column.values.lengths.max(initial=0))
        if isinstance(column.values, Ragged)
        else 0,
    }


def _dump(path: Path, values: Any) -> None:
    with path.open("wb") as handle:
        pickle.dump(values, handle)


def _python_values(values: np.ndarray | RaggedArray) -> list[Any]:
    """What UniTok stores: Python integers, one list a row of a list column."""
    if not isinstance(values, Ragged):
        plain: list[int] = values.tolist()
        return plain
    flat, offsets = values.values.tolist(), values.offsets.tolist()
    return [flat[begin:end] for begin, end in pairwise(offsets)]


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Making a million lists sets off the cycle collector again and again: most of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
