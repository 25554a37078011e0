"""Writing and re-reading the columnar form of the tables (docs/design.md, "Data on disk")."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from legos import __version__
from legos.data.columns import FORMAT, Columns, read_manifest
from legos.data.ragged import RaggedArray
from legos.errors import DataError
from legos.files import sha256_of_file, sha256_of_text, write_array, write_json, write_text
from process.tokenization import TextTokenizer


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
                    "they were replaced at the same time, or are damaged: run the same command "
                    "again, or make them again"
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
        write_text(path, json.dumps(list(values), ensure_ascii=False) + "\n")
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

    def texts(self, field: str, *, table: str = "items") -> list[str]:
        """The raw texts of a field of items, or of a further table."""
        return self.strings(f"{table}/{field}.json", self.manifest["tables"][table]["rows"])

    def items(self) -> pd.DataFrame:
        """The items as ``RawData.items`` had them; missing categories are ""."""
        items = {"item_id": self.vocabulary("item_id")}
        for field in (*self.text_fields, *self.category_fields):
            items[field] = self.texts(field)
        return pd.DataFrame(items, dtype=object)
