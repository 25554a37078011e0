"""The files of a tables folder, each checked against the manifest before its numbers are used.

The commands of ``process`` read :class:`Columns` and start without torch; training reads
:class:`Tables`, the same columns as tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from legos.data.manifest import AGAIN, read_manifest
from legos.data.numbers import written
from legos.data.ragged import Ragged, RaggedArray
from legos.data.texts import join_texts
from legos.errors import DataError, nearest
from legos.files import recover_folder
from legos.records import check_ids, check_offsets, read_array, read_strings

if TYPE_CHECKING:
    from torch import Tensor


class Columns:
    """Columns, vocabularies and texts of finished tables.

    Args:
        folder: a tables folder.
        manifest: what :func:`read_manifest` gave.
        mapped: read numbers when they are used, not at once.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], *, mapped: bool = True) -> None:
        self.folder = folder
        self.manifest = manifest
        self._mapped = mapped
        self._checked: set[str] = set()

    def described(self, table: str, column: str) -> dict[str, Any]:
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

    def scalar(self, table: str, column: str) -> np.ndarray:
        """A scalar column ``(rows,)`` as stored.

        Raises:
            DataError: no such column, or its file is not what the manifest says.
        """
        described = self._expect(table, column, "scalar")
        values = self._array(f"{table}/{column}.npy", described["dtype"], self._rows(table))
        self._check_ids(table, column, described, values)
        return values

    def lists(self, table: str, column: str) -> RaggedArray:
        """A list column with its values as stored.

        Raises:
            DataError: no such column, or its files are not what the manifest says.
        """
        described = self._expect(table, column, "list")
        values = self._array(f"{table}/{column}.values.npy", described["dtype"], None)
        name = f"{table}/{column}.offsets.npy"
        offsets = self._array(name, "int64", self._rows(table) + 1)
        if name not in self._checked:
            check_offsets(offsets, len(values), str(self._path(name)), hint=AGAIN)
            self._checked.add(name)
        self._check_ids(table, column, described, values)
        return Ragged(values, offsets)

    def vocabulary(self, name: str) -> list[str]:
        """The entries of a vocabulary; position = id.

        Raises:
            DataError: no such vocabulary, or its file is not what the manifest says.
        """
        known = self.manifest["vocabularies"]
        if name not in known:
            raise DataError(f"{self.folder}: no vocabulary {name!r}; {nearest(name, known)}")
        return self.strings(f"vocabulary/{name}.json", known[name]["size"])

    def strings(self, name: str, count: int) -> list[str]:
        """A JSON list of ``count`` strings below ``columns/``.

        Raises:
            DataError: it is missing, or something else.
        """
        values = read_strings(self._path(name), hint=AGAIN)
        if len(values) != count:
            raise DataError(
                f"{self._path(name)}: {len(values):,} entries, the manifest says {count:,}; {AGAIN}"
            )
        return values

    def _expect(self, table: str, column: str, kind: str) -> dict[str, Any]:
        described = self.described(table, column)
        if described["kind"] != kind:
            raise DataError(
                f"{self.folder}: {table}.{column} is a {described['kind']} column, not a {kind}"
            )
        return described

    def _rows(self, table: str) -> int:
        return int(self.manifest["tables"][table]["rows"])

    def _path(self, name: str) -> Path:
        return self.folder / "columns" / name

    def _array(self, name: str, dtype: str, length: int | None) -> np.ndarray:
        path = self._path(name)
        return read_array(path, dtype=dtype, shape=(length,), mapped=self._mapped, hint=AGAIN)

    def _check_ids(
        self, table: str, column: str, described: dict[str, Any], values: np.ndarray
    ) -> None:
        """Every id has an entry in its vocabulary; looked at once."""
        name, vocabulary = f"{table}.{column}", described["vocabulary"]
        if vocabulary is None or name in self._checked:
            return
        size = self.manifest["vocabularies"][vocabulary]["size"]
        where = f"{self.folder}: {name}, of vocabulary {vocabulary!r},"
        check_ids(values, size, where, hint=AGAIN)
        self._checked.add(name)


class Tables:
    """One data set as ``process`` wrote it (``docs/data-format.md``).

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
        import torch

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
        import torch

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
        """The raw text of a field for every item, or for every row of a further table.

        A number is written out, ``19.99``; "" where it is unknown.
        """
        if table == "items":
            what, fields = "item", self.manifest["fields"]
        else:
            what, fields = table, self.manifest.get("table_fields", {}).get(table, {})
        if field not in fields:
            raise DataError(f"{self.folder}: no {what} field {field!r}; {nearest(field, fields)}")
        if fields[field]["kind"] == "number":
            return written(self._columns.scalar(table, field))
        rows = int(self.manifest["tables"][table]["rows"])
        return self._columns.strings(f"{table}/{field}.json", rows)

    @property
    def text_fields(self) -> list[str]:
        """Names of the item fields that are texts."""
        fields = self.manifest["fields"]
        return [name for name, field in fields.items() if field["kind"] == "text"]

    @property
    def title_field(self) -> str | None:
        """The field that says what an item is called: its title, or its first text; None: none."""
        texts = self.text_fields
        return "title" if "title" in texts else next(iter(texts), None)

    def joined_texts(self, fields: Sequence[str]) -> list[str]:
        """The texts of every item in one, ``". "`` between them; empty where it has none."""
        return join_texts([self.texts(field) for field in fields])
