"""``manifest.json`` of a tables folder, and the check of the files that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from legos.errors import DataError
from legos.records import Count, Record, check_record, read_json

FORMAT = 1
MANIFEST = "manifest.json"
WORDS = "words"
"""Source of a tokenizer whose vocabulary is made from the texts of the tables themselves."""
AGAIN = "make the tables again with `python -m process.<name> --force ...`"

IMPRESSION = ("impression_id", "history", "candidates", "labels")
"""Columns that only tables of impressions have."""

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
        self._require(tokenizer_file(name, made.source) for name, made in self.tokenizers.items())
        self._require(
            f"columns/items/{name}.json"
            for name, each in self.fields.items()
            if each.kind == "text"
        )
        self._check_fields("items", self.fields)
        self._check_fields("users", self.user_fields)
        for table in self.tables:
            self._check_impressions(table)
        return self

    def _check_fields(self, table: str, fields: Mapping[str, FieldRecord]) -> None:
        """Every field has its columns."""
        columns = self.tables[table].columns
        for name, field in fields.items():
            is_text = field.kind == "text"
            wanted = (
                [f"{name}@{tokenizer}" for tokenizer in field.tokenizers] if is_text else [name]
            )
            for column in wanted:
                if column not in columns:
                    raise ValueError(f"{table}.{column}: a {field.kind} field without its column")
            if field.kind == "number" and not columns[name].is_number:
                raise ValueError(
                    f"{table}.{name}: a number field without a scalar float32 column of its name"
                )

    def _check_impressions(self, table: str) -> None:
        """A table with one column of impressions has all of them."""
        columns = self.tables[table].columns
        missing = [name for name in IMPRESSION if name not in columns]
        if 0 < len(missing) < len(IMPRESSION):
            raise ValueError(f"tables.{table}: no column {', '.join(missing)}")

    def _columns(self) -> Iterator[tuple[str, ColumnRecord]]:
        for table, described in self.tables.items():
            for name, column in described.columns.items():
                yield f"{table}/{name}", column

    def _require(self, names: Iterator[str]) -> None:
        for name in names:
            if name not in self.files:
                raise ValueError(f"files: {name} is not among them")


def tokenizer_file(name: str, source: str) -> str:
    """Path, below the folder of tables, of the file of a tokenizer."""
    return f"columns/tokenizer/{name}/{'vocabulary' if source == WORDS else 'tokenizer'}.json"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a tables folder and compare the sizes of its files.

    Raises:
        DataError: no manifest, one of another format or damaged, or a file that is missing or cut
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
