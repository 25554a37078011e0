"""Reading the tables that ``process`` wrote: memory-mapped columns and their vocabularies."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from legos.data.columns import Columns, read_manifest
from legos.data.ragged import Ragged
from legos.errors import DataError, nearest
from legos.files import recover_folder


class Tables:
    """One data set as ``process`` wrote it (``docs/design.md``, "Data on disk").

    Columns are memory-mapped read-only; nothing is unpickled.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        self._columns = Columns(folder, manifest)
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
            DataError: no manifest, another format, or a file that is not what it says.
        """
        folder = Path(folder)
        recover_folder(folder)
        return cls(folder, read_manifest(folder))

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
        return self._columns.described(table, column)

    def scalar(self, table: str, column: str) -> Tensor:
        """A scalar column ``(rows,)`` as stored.

        Raises:
            DataError: no such column, or its file is not what the manifest says.
        """
        return torch.from_numpy(self._columns.scalar(table, column))

    def lists(self, table: str, column: str) -> Ragged:
        """A list column with its values as stored.

        Raises:
            DataError: no such column, or its files are not what the manifest says.
        """
        return self._columns.lists(table, column).tensors()

    def vocabulary(self, name: str) -> list[str]:
        """The entries of a vocabulary; position = id."""
        return self._columns.vocabulary(name)

    def texts(self, field: str, *, table: str = "items") -> list[str]:
        """The raw text of a field for every item, or for every row of a further table."""
        if table == "items":
            what, fields = "item", self.manifest["fields"]
        else:
            what, fields = table, self.manifest.get("table_fields", {}).get(table, {})
        if field not in fields:
            raise DataError(f"{self.folder}: no {what} field {field!r}; {nearest(field, fields)}")
        rows = int(self.manifest["tables"][table]["rows"])
        return self._columns.strings(f"{table}/{field}.json", rows)

    @property
    def text_fields(self) -> list[str]:
        """Names of the item fields that are texts."""
        fields = self.manifest["fields"]
        return [name for name, field in fields.items() if field["kind"] == "text"]

    def joined_texts(self, fields: Sequence[str]) -> list[str]:
        """The texts of every item in one, ``". "`` between them; empty where it has none."""
        columns = [self.texts(field) for field in fields]
        return [". ".join(filter(None, parts)) for parts in zip(*columns, strict=True)]
