"""Reading the tables that ``process`` wrote: memory-mapped columns and their vocabularies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.errors import DataError, nearest

FORMAT = 1


class Tables:
    """One data set as ``process`` wrote it (``docs/design.md``, "Data on disk").

    Columns are memory-mapped read-only; nothing is unpickled.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        self.name: str = manifest["name"]
        self.fingerprint: str = manifest["fingerprint"]
        self.splits: list[str] = [
            table
            for table, described in manifest["tables"].items()
            if "candidates" in described["columns"]
        ]

    @classmethod
    def load(cls, folder: Path | str) -> Tables:
        """Open a tables folder.

        Raises:
            DataError: no manifest, another format, or a file that is missing or cut short.
        """
        folder = Path(folder)
        path = folder / "manifest.json"
        if not path.is_file():
            raise DataError(
                f"{folder}: no manifest.json here, so these are no finished tables; "
                "make them with `python -m process.<name> --output ...`"
            )
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{path}: not valid JSON ({error}); make the tables again") from None
        found = manifest.get("format") if isinstance(manifest, dict) else None
        if found != FORMAT:
            raise DataError(
                f"{path}: tables of format {found!r}, this version reads format {FORMAT}; "
                "make them again with `python -m process.<name> --force ...`"
            )
        for name, expected in manifest["files"].items():
            file = folder / name
            size = file.stat().st_size if file.is_file() else None
            if size != expected["bytes"]:
                state = "is missing" if size is None else f"has {size} bytes"
                raise DataError(
                    f"{file}: {state}, the manifest says {expected['bytes']}; make the tables again"
                )
        return cls(folder, manifest)

    @property
    def num_items(self) -> int:
        """Number of items; item i is row i of table ``items``."""
        return int(self.manifest["tables"]["items"]["rows"])

    @property
    def num_users(self) -> int:
        """Number of users."""
        return int(self.manifest["tables"]["users"]["rows"])

    @cached_property
    def offered(self) -> Tensor:
        """``(items,)`` bool: an item that users may be shown, not one that a model wrote."""
        if not self.has("items", "synthetic"):
            return torch.ones(self.num_items, dtype=torch.bool)
        return ~self.scalar("items", "synthetic").bool()

    def has(self, table: str, column: str) -> bool:
        """Whether a table has a column."""
        tables = self.manifest["tables"]
        return table in tables and column in tables[table]["columns"]

    def column(self, table: str, column: str) -> dict[str, Any]:
        """What the manifest says of a column: kind, dtype, vocabulary.

        Raises:
            DataError: no such table or column; the message names the nearest.
        """
        tables = self.manifest["tables"]
        if table not in tables:
            raise DataError(f"{self.folder}: no table {table!r}; {nearest(table, tables)}")
        columns = tables[table]["columns"]
        if column not in columns:
            raise DataError(
                f"{self.folder}: table {table!r} has no column {column!r}; "
                f"{nearest(column, columns)}"
            )
        return dict(columns[column])

    def scalar(self, table: str, column: str) -> Tensor:
        """A scalar column ``(rows,)`` as stored."""
        self._expect(table, column, "scalar")
        return self._array(table, f"{column}.npy")

    def lists(self, table: str, column: str) -> Ragged:
        """A list column with its values as stored."""
        self._expect(table, column, "list")
        return Ragged(
            self._array(table, f"{column}.values.npy"), self._array(table, f"{column}.offsets.npy")
        )

    def vocabulary(self, name: str) -> list[str]:
        """The entries of a vocabulary; position = id."""
        known = self.manifest["vocabularies"]
        if name not in known:
            raise DataError(f"{self.folder}: no vocabulary {name!r}; {nearest(name, known)}")
        return self._json(f"vocabulary/{name}.json")

    def texts(self, field: str, *, table: str = "items") -> list[str]:
        """The raw text of a field for every item, or for every row of a further table."""
        if table == "items":
            what, fields = "item", self.manifest["fields"]
        else:
            what, fields = table, self.manifest.get("table_fields", {}).get(table, {})
        if field not in fields:
            raise DataError(f"{self.folder}: no {what} field {field!r}; {nearest(field, fields)}")
        return self._json(f"{table}/{field}.json")

    @property
    def text_fields(self) -> list[str]:
        """Names of the item fields that are texts."""
        fields = self.manifest["fields"]
        return [name for name, field in fields.items() if field["kind"] == "text"]

    def joined_texts(self, fields: Sequence[str]) -> list[str]:
        """The texts of every item in one, ``". "`` between them; empty where it has none."""
        columns = [self.texts(field) for field in fields]
        return [". ".join(filter(None, parts)) for parts in zip(*columns, strict=True)]

    def _expect(self, table: str, column: str, kind: str) -> None:
        found = self.column(table, column)["kind"]
        if found != kind:
            raise DataError(f"{self.folder}: {table}.{column} is a {found} column, not a {kind}")

    def _array(self, table: str, name: str) -> Tensor:
        path = self.folder / "columns" / table / name
        try:  # copy-on-write: torch wants writable memory, the file is never changed
            array = np.load(path, mmap_mode="c", allow_pickle=False)
        except ValueError as error:
            raise DataError(f"{path}: damaged ({error}); make the tables again") from None
        return torch.from_numpy(array)

    def _json(self, name: str) -> list[str]:
        path = self.folder / "columns" / name
        try:
            values: list[str] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{path}: damaged ({error}); make the tables again") from None
        return values
