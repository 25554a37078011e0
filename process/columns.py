"""Tables on disk: their columns, written and re-read, and a copy in UniTok's own format.

docs/data-format.md has the layout.
"""

from __future__ import annotations

import gc
import io
import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from legos import __version__
from legos.data.manifest import FORMAT, read_manifest
from legos.data.ragged import Ragged, RaggedArray
from legos.data.tables import Columns
from legos.data.tokenizers import TextTokenizer
from legos.errors import DataError
from legos.files import sha256_of_file, sha256_of_text, write_array, write_json, write_texts
from legos.progress import progress_bar
from legos.scratch import pages, release, windows
from process.tokenization import Column


class ColumnWriter:
    """Columns, vocabularies and tokenizers of one tables folder; the manifest at last.

    Args:
        folder: the (temporary) tables folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tables: dict[str, dict[str, Any]] = {}
        self.vocabularies: dict[str, dict[str, Any]] = {}
        self.tokenizers: dict[str, dict[str, Any]] = {}
        self.kept: dict[str, str] = {}
        """SHA-256 of the files that were taken over from other tables."""

    def scalar(
        self, table: str, column: str, values: np.ndarray, vocabulary: str | None = None
    ) -> None:
        """One value a row."""
        self._write(f"{table}/{column}.npy", values)
        self._note(table, column, "scalar", len(values), values.dtype, vocabulary)

    def lists(
        self, table: str, column: str, rows: RaggedArray, vocabulary: str | None = None
    ) -> None:
        """One list a row."""
        self._write(f"{table}/{column}.values.npy", rows.values)
        self._write(f"{table}/{column}.offsets.npy", rows.offsets)
        self._note(table, column, "list", len(rows.lengths), rows.values.dtype, vocabulary)

    def columns(self, table: str, columns: Mapping[str, Column]) -> None:
        """Columns of a table by name, each as what its values are."""
        for name, column in columns.items():
            if isinstance(column.values, Ragged):
                self.lists(table, name, column.values, column.vocabulary)
            else:
                self.scalar(table, name, column.values, column.vocabulary)

    def texts(self, field: str, texts: Sequence[str], *, table: str = "items") -> None:
        """The raw texts of a field."""
        self._write_list(f"{table}/{field}.json", texts)

    def vocabulary(self, name: str, entries: Sequence[str]) -> None:
        """A vocabulary; position = id."""
        path = self._write_list(f"vocabulary/{name}.json", entries)
        self.vocabularies[name] = {"size": len(entries), "sha256": sha256_of_file(path)}

    def tokenizer(self, name: str, tokenizer: TextTokenizer) -> None:
        """A tokenizer and its vocabulary."""
        place = self.folder / "columns/tokenizer" / name
        tokenizer.save(place)
        for path in place.iterdir():
            self._replaced(path)
        self.vocabulary(name, tokenizer.vocabulary)
        sha256 = tokenizer.sha256 or self.vocabularies[name]["sha256"]
        self.tokenizers[name] = {"source": tokenizer.source, "sha256": sha256}

    def manifest(self, **entries: Any) -> dict[str, Any]:
        """Write the manifest: hashes of everything written before it, and ``entries``."""
        files: dict[str, dict[str, Any]] = {
            path.relative_to(self.folder).as_posix(): {
                "bytes": path.stat().st_size,
                "sha256": sha256_of_file(path),
            }
            for path in sorted((self.folder / "columns").rglob("*"))
            if path.is_file()
        }
        for name, sha256 in self.kept.items():
            if name not in files or files[name]["sha256"] != sha256:
                raise DataError(
                    f"{self.folder / name}: is not what the manifest of the source tables says; "
                    "they were replaced meanwhile or are damaged: rerun the command, or make them "
                    "again"
                )
        manifest = {
            "format": FORMAT,
            "toolkit": __version__,
            **entries,
            "tables": self.tables,
            "vocabularies": self.vocabularies,
            "tokenizers": self.tokenizers,
            "files": files,
            "fingerprint": sha256_of_text("".join(files[name]["sha256"] for name in sorted(files))),
        }
        write_json(self.folder / "manifest.json", manifest)
        return manifest

    def _write(self, name: str, values: np.ndarray) -> None:
        path = self.folder / "columns" / name
        write_array(path, values)
        self._replaced(path)

    def _write_list(self, name: str, values: Sequence[str]) -> Path:
        path = self.folder / "columns" / name
        write_texts(path, _json_list(values))
        self._replaced(path)
        return path

    def _replaced(self, path: Path) -> None:
        self.kept.pop(path.relative_to(self.folder).as_posix(), None)

    def _note(
        self,
        table: str,
        column: str,
        kind: str,
        rows: int,
        dtype: np.dtype[Any],
        vocabulary: str | None,
    ) -> None:
        entry = self.tables.setdefault(table, {"rows": rows, "columns": {}})
        if entry["rows"] != rows:
            raise DataError(f"{table}.{column} has {rows} rows, the table {entry['rows']}")
        entry["columns"][column] = {"kind": kind, "dtype": dtype.name, "vocabulary": vocabulary}


def _json_list(values: Sequence[str]) -> Iterator[str]:
    """What ``json.dumps`` makes of them, page by page."""
    yield "["
    for number, page in enumerate(pages(values)):
        yield ", " * (number > 0) + json.dumps(list(page), ensure_ascii=False)[1:-1]
    yield "]\n"


class ColumnReader(Columns):
    """What new raw data must know of finished tables: items, users, tokenizers.

    Args:
        folder: a finished tables folder.

    Raises:
        DataError: it is none, of another format, or damaged.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, read_manifest(folder), mapped=False)
        fields = self.manifest["fields"]
        self.text_fields = tuple(n for n, f in fields.items() if f["kind"] == "text")
        self.category_fields = tuple(n for n, f in fields.items() if f["kind"] == "category")
        self.number_fields = tuple(n for n, f in fields.items() if f["kind"] == "number")

    def texts(self, field: str, *, table: str = "items") -> list[str]:
        """The raw texts of a field of items, or of a further table."""
        return self.strings(f"{table}/{field}.json", self.manifest["tables"][table]["rows"])

    def items(self) -> pd.DataFrame:
        """The items as ``RawData.items`` had them; missing categories are ""."""
        items = {"item_id": self.vocabulary("item_id")}
        for field in (*self.text_fields, *self.category_fields):
            items[field] = self.texts(field)
        frame = pd.DataFrame(items, dtype=object)
        for field in self.number_fields:
            frame[field] = self.scalar("items", field)
        return frame


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
    seconds; ``oracle`` and number fields are left out, since UniTok knows integers only.

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
        self.vocabularies: dict[str, Sequence[Any]] = {
            **vocabularies,
            "history": range(states),
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
            _dump_vocabulary(folder / f"{name}.vocab", self.vocabularies[name])
        _dump_columns(folder / "data.pkl", columns)
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
            if isinstance(values, np.ndarray) and values.dtype.kind == "f":
                continue
            if column.vocabulary is not None:
                kind = "entities" if isinstance(values, Ragged) else "entity"
                columns[name] = _UniTokColumn(kind, column.vocabulary, values)
            elif name == "history":
                columns[name] = _UniTokColumn("digit", "history", values)
            elif name == "labels":
                columns[name] = _UniTokColumn("digits", "label", values)
            elif name == "time":
                seconds, found = pd.factorize(np.asarray(values))
                self.vocabularies[f"time@{table}"] = cast(Sequence[Any], found)
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


_LISTS_A_PAGE = 1 << 10
_PROTOCOL, _LIST, _DICT, _MARK, _SET_ITEMS, _STOP = b"\x80\x02", b"]", b"}", b"(", b"u", b"."


def _dump_vocabulary(path: Path, entries: Sequence[Any]) -> None:
    """Pickle the entries as a list of strings, page by page."""
    with path.open("wb") as file:
        file.write(_PROTOCOL + _LIST)
        for page in pages(entries):
            file.write(_appended(list(map(str, page))))
        file.write(_STOP)


def _dump_columns(path: Path, columns: Mapping[str, _UniTokColumn]) -> None:
    """Pickle a dict of lists, page by page: Python integers, one list a row of a list column."""
    with path.open("wb") as file:
        file.write(_PROTOCOL + _DICT + _MARK)
        for name, column in columns.items():
            file.write(_pickled(name) + _LIST)
            values = column.values
            if isinstance(values, Ragged):
                for rows in pages(range(len(values)), _LISTS_A_PAGE):
                    flat = values.values[values.offsets[rows[0]] : values.offsets[rows[-1] + 1]]
                    ends = values.offsets[rows[0] : rows[-1] + 2] - values.offsets[rows[0]]
                    plain = flat.tolist()
                    file.write(_appended([plain[a:b] for a, b in pairwise(ends.tolist())]))
                    release(values.values)
            else:
                for page in windows(values):
                    file.write(_appended(page.tolist()))
        file.write(_SET_ITEMS + _STOP)


def _appended(rows: list[Any]) -> bytes:
    """The opcodes that append rows to the list on the stack."""
    return _pickled(rows)[len(_LIST) :]


def _pickled(value: Any) -> bytes:
    """The opcodes of a value, without a memo of what was written before."""
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, 2)
    pickler.fast = True
    pickler.dump(value)
    return buffer.getvalue()[len(_PROTOCOL) : -len(_STOP)]


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
