"""The table writer: raw data in, columns and their UniTok copy out, whole or not at all."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from legos.data.tokenizers import TextTokenizer, load_tokenizers
from legos.errors import DataError
from legos.files import atomic_folder, output_lock, write_text
from process.columns import ColumnReader, ColumnWriter, UniTokWriter
from process.extend import encode_with, in_ids_of
from process.honesty import Evidence, measure_honesty
from process.raw import FurtherTable, Impressions, RawData, TokenizerSpec, UserFields
from process.summary import (
    describe_settings,
    describe_sources,
    finished_tables,
    print_summary,
    summarise,
)
from process.tokenization import Encoded, Given, encode, make_tokenizer

__all__ = [
    "FurtherTable",
    "Impressions",
    "RawData",
    "TokenizerSpec",
    "UserFields",
    "new_impressions_tables",
    "write_tables",
]


def write_tables(
    raw: RawData,
    folder: Path,
    tokenizers: Sequence[TokenizerSpec],
    *,
    force: bool = False,
    unitok: bool = True,
    beside: Callable[[Mapping[str, Any]], Mapping[str, str]] | None = None,
    given: Given | None = None,
    tell: Callable[[Mapping[str, Any]], None] = print_summary,
) -> dict[str, Any]:
    """Write a data set's tables, whole or not at all, and print its summary.

    Args:
        raw: the data set.
        folder: where the tables go.
        tokenizers: how texts are cut; every text field gets a column of each.
        force: replace finished tables of other sources or settings.
        unitok: also write the UniTok copy.
        beside: makes texts from the manifest that become files of the folder, by name.
        given: columns that are ids already.
        tell: prints what the tables are like, from the manifest.

    Returns:
        The manifest.

    Raises:
        DataError: the data cannot be written, ``folder`` is taken, or the disk is full.
    """
    raw.check()
    given = given or Given()
    own = _make_tokenizers(raw, tokenizers)
    if twice := own.keys() & given.tokenizers.keys():
        raise DataError(f"--tokenizer {min(twice)}: the texts have a vocabulary of this name")
    made = {**given.tokenizers, **own}
    settings = describe_settings(raw, made, unitok=unitok)
    sources = describe_sources(raw.sources)
    with output_lock(folder):
        manifest = finished_tables(folder, settings, sources, force=force)
        if manifest is None:
            encoded = encode(raw, own, given)
            manifest = _write(
                raw, encoded, made, folder, settings, sources, unitok=unitok, beside=beside
            )
    tell(manifest)
    return manifest


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
    made = load_tokenizers(tables, parent.manifest)
    raw = in_ids_of(parent, raw)
    raw.check()
    fingerprint = parent.manifest["fingerprint"]
    settings = describe_settings(raw, made, unitok=False) | {"parent": fingerprint}
    sources = describe_sources(raw.sources)
    with output_lock(folder):
        manifest = finished_tables(folder, settings, sources, force=force)
        if manifest is None:
            encoded = encode_with(parent, raw, made)
            manifest = _write(
                raw, encoded, made, folder, settings, sources, unitok=False, parent=fingerprint
            )
    print_summary(manifest)
    return manifest


def _write(
    raw: RawData,
    encoded: Encoded,
    tokenizers: Mapping[str, TextTokenizer],
    folder: Path,
    settings: dict[str, Any],
    sources: list[dict[str, Any]],
    *,
    unitok: bool,
    beside: Callable[[Mapping[str, Any]], Mapping[str, str]] | None = None,
    **further: Any,
) -> dict[str, Any]:
    with _clear_disk_errors(folder), atomic_folder(folder) as part:
        writer = ColumnWriter(part)
        for table, columns in encoded.tables.items():
            writer.columns(table, columns)
        for name, texts in raw.texts.items():
            writer.texts(name, texts)
        for name in raw.category_fields:
            writer.texts(name, raw.items[name].tolist())
        for table, further_table in raw.further.items():
            for name, texts in further_table.texts.items():
                writer.texts(name, texts, table=table)
        for name, entries in encoded.vocabularies.items():
            writer.vocabulary(name, entries)
        for name, tokenizer in tokenizers.items():
            writer.tokenizer(name, tokenizer)
        if unitok:
            tokens = {name: tokenizer.vocabulary for name, tokenizer in tokenizers.items()}
            known = {name: t for name, t in encoded.tables.items() if name not in raw.further}
            UniTokWriter(known, encoded.vocabularies | tokens).write(part / "unitok")
        manifest = writer.manifest(
            name=raw.name,
            layout=raw.layout,
            split_rule=raw.split_rule,
            fields=_describe_fields(
                raw.text_fields,
                raw.category_fields,
                raw.number_fields,
                tokenizers,
                encoded.tables["items"],
            ),
            sources=sources,
            settings=settings,
            summary=summarise(raw, encoded),
            honesty=measure_honesty(Evidence.of_raw(raw, encoded, tokenizers)).model_dump(
                mode="json"
            ),
            oddities=raw.oddities,
            negatives={split: rows.negatives for split, rows in raw.splits.items()},
            **_describe_further(raw, encoded, tokenizers),
            **further,
        )
        for name, text in beside(manifest).items() if beside else ():
            write_text(part / name, text)
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
    fields = raw.user_fields or UserFields(pd.DataFrame())
    taken = {"item_id", "user_id", *raw.category_fields, *fields.categories}
    taken |= {name for table in raw.further.values() for name in table.entries}
    for spec in specs:
        if spec.name in taken or spec.name.startswith("impression_id"):
            raise DataError(
                f"--tokenizer {spec.name}={spec.source}: the name is that of another vocabulary "
                f"({', '.join(sorted(taken))})"
            )
    texts: list[Sequence[str]] = list(raw.texts.values())
    texts += [fields.values[name].tolist() for name in fields.texts]
    texts += [column for table in raw.further.values() for column in table.texts.values()]
    return {spec.name: make_tokenizer(spec, texts) for spec in specs}


def _describe_fields(
    texts: Iterable[str],
    categories: Iterable[str],
    numbers: Iterable[str],
    tokenizers: Mapping[str, TextTokenizer],
    columns: Collection[str],
) -> dict[str, Any]:
    return {
        **_describe_texts(texts, tokenizers, columns),
        **{name: {"kind": "category"} for name in categories},
        **{name: {"kind": "number"} for name in numbers},
    }


def _describe_further(
    raw: RawData, encoded: Encoded, tokenizers: Mapping[str, TextTokenizer]
) -> dict[str, Any]:
    """Own names, fields of users, texts of further tables; nothing where there are none."""
    described: dict[str, Any] = {}
    if raw.source_columns:
        described["source_columns"] = dict(raw.source_columns)
    if (fields := raw.user_fields) is not None:
        described["user_fields"] = _describe_fields(
            fields.texts, fields.categories, fields.numbers, tokenizers, encoded.tables["users"]
        )
    if raw.further:
        described["table_fields"] = {
            name: _describe_texts(table.texts, tokenizers, encoded.tables[name])
            for name, table in raw.further.items()
        }
    return described


def _describe_texts(
    names: Iterable[str], tokenizers: Mapping[str, TextTokenizer], columns: Collection[str]
) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "kind": "text",
            "tokenizers": [label for label in tokenizers if f"{name}@{label}" in columns],
        }
        for name in names
    }
