"""The files of a tables folder, each checked against the manifest before its numbers are used.

The commands of ``process`` read :class:`Columns` and start without torch; training reads
:class:`Tables`, the same columns as tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from legos.data.numbers import written
from legos.data.ragged import Ragged, RaggedArray
from legos.data.texts import join_texts
from legos.errors import DataError, nearest
from legos.files import recover_folder
from legos.records import (
    Count,
    Record,
    check_ids,
    check_offsets,
    check_record,
    read_array,
    read_json,
    read_strings,
)

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
MANIFEST = "manifest.json"
AGAIN = "make the tables again with `python -m process.<name> --force ...`"

Negatives = Literal["popularity", "uniform", "shown", "rated", "given", "none"]
"""Where the items beside the clicks of a split come from: drawn in proportion to popularity or
uniformly, shown and not clicked, rated low, as the data give them, or there are none."""


class ColumnRecord(Record):
    """One column of a table."""

    kind: Literal["scalar", "list"]
    dtype: Literal[
        "bool", "int8", "int16", "int32", "int64", "uint8", "float16", "float32", "float64"
    ]
    vocabulary: str | None

    @property
    def is_number(self) -> bool:
        """Whether it can be the column of a number field; NaN = unknown."""
        return (self.kind, self.dtype, self.vocabulary) == ("scalar", "float32", None)


class TableRecord(Record):
    """One table."""

    rows: Count
    columns: dict[str, ColumnRecord]


class FieldRecord(Record):
    """A field of items, users or a further table."""

    kind: Literal["text", "category", "number"]
    tokenizers: list[str] = Field(default_factory=list)


class VocabularyRecord(Record):
    """A vocabulary."""

    size: Count
    sha256: str


class TokenizerRecord(Record):
    """A tokenizer."""

    source: str
    sha256: str


class FileRecord(Record):
    """What a file must be."""

    bytes: Count
    sha256: str


class SourceRecord(FileRecord):
    """A raw file that tables were made from."""

    path: str


class Manifest(Record):
    """``manifest.json`` of a tables folder (``docs/data-format.md``)."""

    format: int
    name: str
    layout: str
    split_rule: str
    fields: dict[str, FieldRecord]
    user_fields: dict[str, FieldRecord] = Field(default_factory=dict)
    table_fields: dict[str, dict[str, FieldRecord]] = Field(default_factory=dict)
    tables: dict[str, TableRecord]
    vocabularies: dict[str, VocabularyRecord]
    tokenizers: dict[str, TokenizerRecord]
    files: dict[str, FileRecord]
    sources: list[SourceRecord]
    summary: dict[str, Any]
    oddities: dict[str, int]
    negatives: dict[str, Negatives] = Field(default_factory=dict)  # by split
    source_columns: dict[str, str] = Field(default_factory=dict)  # by user_id, item_id, field
    settings: dict[str, Any] = Field(default_factory=dict)
    fingerprint: str

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        for table in ("items", "users"):
            if table not in self.tables:
                raise ValueError(f"tables: there is no table {table!r}")
        for table, vocabulary in (("items", "item_id"), ("users", "user_id")):
            rows, known = self.tables[table].rows, self.vocabularies.get(vocabulary)
            if known is None or known.size != rows:
                raise ValueError(
                    f"tables.{table}: {rows} rows, vocabulary {vocabulary!r} has "
                    f"{known.size if known else 'no'} entries"
                )
        for name, column in self._columns():
            if column.vocabulary is not None and column.vocabulary not in self.vocabularies:
                raise ValueError(f"{name}: there is no vocabulary {column.vocabulary!r}")
            endings = (".npy",) if column.kind == "scalar" else (".values.npy", ".offsets.npy")
            self._require(f"columns/{name}{ending}" for ending in endings)
        self._require(f"columns/vocabulary/{name}.json" for name in self.vocabularies)
        self._check_numbers("items", self.fields)
        self._check_numbers("users", self.user_fields)
        return self

    def _check_numbers(self, table: str, fields: Mapping[str, FieldRecord]) -> None:
        for name, field in fields.items():
            column = self.tables[table].columns.get(name)
            if field.kind == "number" and (column is None or not column.is_number):
                raise ValueError(
                    f"{table}.{name}: a number field without a scalar float32 column of its name"
                )

    def _columns(self) -> Iterator[tuple[str, ColumnRecord]]:
        for table, described in self.tables.items():
            for name, column in described.columns.items():
                yield f"{table}/{name}", column

    def _require(self, names: Iterator[str]) -> None:
        for name in names:
            if name not in self.files:
                raise ValueError(f"files: {name} is not among them")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a tables folder, whose files have the sizes that it says.

    Raises:
        DataError: there is none, it is of another format or damaged, or a file is missing or cut
            short.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(
            f"{folder}: no {MANIFEST}: not a folder of prepared tables; make them with `python -m "
            "process.<name> --output ...`"
        )
    manifest = read_json(path, hint=AGAIN)
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if isinstance(manifest, dict) and found != FORMAT:
        raise DataError(
            f"{path}: tables of format {found!r}, this version reads format {FORMAT}; {AGAIN}"
        )
    checked = check_record(manifest, Manifest, str(path), hint=AGAIN)
    for name, expected in checked.files.items():
        file = folder / name
        size = file.stat().st_size if file.is_file() else None
        if size != expected.bytes:
            state = "is missing" if size is None else f"has {size} bytes"
            raise DataError(f"{file}: {state}, the manifest says {expected.bytes}; {AGAIN}")
    described: dict[str, Any] = manifest
    return described


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


RULES = {
    "next_id": "next larger raw item id after the last item of the history",
    "next_line": "next row of the item table after the last item of the history",
    "popularity_train": "clicks in train",
    "popularity_test": "clicks in the other half of the same split",
    "most_recent": "latest click in train",
    "newest": "latest first appearance in train",
    "unseen": "items without a click in train first",
    "never_negative": "items never shown to the user in train without a click first",
}
"""By name what a rule that reads no content ranks by."""

Percent = float


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RuleResult(_Frozen):
    """How well a rule without content ranks one split; None = does not apply.

    Attributes:
        gauc: mean over impressions of the AUC among the candidates shown, ties at one half.
        error: its standard error.
        all_items: mean over clicks of the AUC among all items but the history.
        hits_at_10: share of clicks among the first ten of all items but the history.
    """

    gauc: float | None = None
    error: float | None = None
    all_items: float | None = None
    hits_at_10: float | None = None


class SplitHonesty(_Frozen):
    """One split but train.

    Attributes:
        impressions: in the split.
        measured: of them; more than a bound are sampled by a seed.
        known_clicks: clicks on an item of the impression's history, in percent.
        repeated_candidates: impressions that list an item twice, in percent.
        chance_at_10: ``hits_at_10`` of a random order; None where not all items are ranked.
        rules: results by name, see ``RULES``.
    """

    impressions: int
    measured: int
    known_clicks: Percent
    repeated_candidates: Percent
    chance_at_10: float | None = None
    rules: dict[str, RuleResult] = Field(default_factory=dict)


class TimeHonesty(_Frozen):
    """The times of interactions (table ``reviews``) or, without that table, of impressions.

    Attributes:
        source: ``interactions`` or ``impressions``.
        known, unknown: how many have a time, and how many have none.
        tied: those that share their time with another one of their user, in percent.
        tied_of: what ``tied`` is a share of: ``interactions`` or ``impressions``.
        tied_by_hash: a seeded hash orders what is tied; False: the source's order, or no one knows.
        dates: times at midnight UTC, in percent: dates without an hour.
        before_1995, in_future: implausible ones.
        earliest, latest: ISO dates; None without times.
    """

    source: str
    known: int
    unknown: int
    tied: Percent
    tied_of: str
    tied_by_hash: bool = False
    dates: Percent
    before_1995: int
    in_future: int
    earliest: str | None
    latest: str | None


class TextHonesty(_Frozen):
    """One text field.

    Attributes:
        texts: in all.
        empty: in percent.
        markup: texts with an HTML tag or entity, in percent.
        unknown: by tokenizer the share of unknown tokens, in percent; tokenizers without such a
            token are left out.
    """

    texts: int
    empty: Percent
    markup: Percent
    unknown: dict[str, Percent] = Field(default_factory=dict)


class HonestyWarning(_Frozen):
    """A number above its bound: what it is of, and a sentence with it."""

    kind: str
    text: str


class Honesty(_Frozen):
    """The data-honesty report.

    Attributes:
        seed: of samples and of the halves of ``popularity_test``.
        items: in the item table.
        items_without_text: with no text in any field.
        items_of_same_text: whose texts all equal those of an earlier item.
        small_splits: impressions of splits too small to measure anything on.
        times: None where nothing has a time.
        texts: by field; of other tables than the items' as ``table.field``.
        splits: by name, without train.
        warnings: what is above its bound, worst kinds first.
    """

    seed: int
    items: int
    items_without_text: int
    items_of_same_text: int
    small_splits: dict[str, int] = Field(default_factory=dict)
    times: TimeHonesty | None = None
    texts: dict[str, TextHonesty] = Field(default_factory=dict)
    splits: dict[str, SplitHonesty] = Field(default_factory=dict)
    warnings: tuple[HonestyWarning, ...] = ()


def read_honesty(manifest: Mapping[str, Any]) -> Honesty | None:
    """The report of a manifest; None of tables that were made without one.

    Raises:
        DataError: not such a report.
    """
    found = manifest.get("honesty")
    if found is None:
        return None
    try:
        return Honesty.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"manifest.json: honesty.{place}: {first['msg']}; make the tables again"
        ) from None


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
