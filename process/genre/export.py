"""Answers become data: a text column of the items, a file of profiles, items of the users' own.

Tables are never changed: a folder beside them links what stays and adds what is new; texts that
were tokenized once are not tokenized again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from legos.data.ragged import Ragged, RaggedArray
from legos.data.tokenizers import load_tokenizers
from legos.errors import DataError, nearest
from legos.files import atomic_folder, output_lock, sha256_of_text, write_text
from process.columns import ColumnReader
from process.derived import copy_of, kept_entries, refuse_nested, rewrite_unitok
from process.genre.requests import Requests
from process.genre.store import Store
from process.genre.types import Answer
from process.summary import describe_sources, finished_tables
from process.tokenization import Column, encode_content

NO_ANSWER = ("unknown",)  # what a closed list offers to a model that cannot tell


def choose_answers(
    store: Store,
    *,
    source: str | None = None,
    model: str | None = None,
    version: int | None = None,
) -> dict[str, Answer]:
    """The answers of one kind, by key; of several with one key the last.

    Raises:
        DataError: there are none, or of several histories, models or versions.
    """
    chosen = choose_all(store, source=source, model=model, version=version)
    refuse_several_kinds(store, chosen)
    return {answer["key"]: answer for answer in chosen}


def choose_all(
    store: Store,
    *,
    source: str | None = None,
    model: str | None = None,
    version: int | None = None,
) -> list[Answer]:
    """The answers of some history, model or version, in the order they came.

    Raises:
        DataError: there are none.
    """
    asked = _asked_for(source, model, version)
    chosen = _those_of(store, asked)
    if not chosen:
        kinds = Counter(_kind(answer) for answer in store.answers())
        found = f"; it has {_list_kinds(kinds)}" if kinds else ""
        described = ", ".join(f"{name} {value}" for name, value in asked.items())
        raise DataError(f"{store.path}: no answers{' of ' + described if asked else ''}{found}")
    return chosen


def kinds_of(
    store: Store, source: str | None, model: str | None, version: int | None
) -> dict[tuple[str, str, int], dict[str, Answer]]:
    """The answers of every source, model and version, by key; of several with one key the last.

    Args:
        store: of one scheme.
        source: which history was read; None is every one.
        model: that answered; None is every one.
        version: of the scheme; None is every one.
    """
    kinds: dict[tuple[str, str, int], dict[str, Answer]] = {}
    for answer in _those_of(store, _asked_for(source, model, version)):
        kind = answer["source"], answer["model"], answer["version"]
        kinds.setdefault(kind, {})[answer["key"]] = answer
    return kinds


def refuse_several_kinds(store: Store, answers: Sequence[Answer]) -> None:
    """Refuse answers that must not be mixed.

    Raises:
        DataError: they are of several histories, models or versions.
    """
    kinds = Counter(_kind(answer) for answer in answers)
    if len(kinds) > 1:
        raise DataError(
            f"{store.path}: answers of several kinds: {_list_kinds(kinds)}; choose by --source, "
            "--model or --version"
        )


def _asked_for(source: str | None, model: str | None, version: int | None) -> dict[str, Any]:
    wanted = {"source": source, "model": model, "version": version}
    return {name: value for name, value in wanted.items() if value is not None}


def _those_of(store: Store, asked: Mapping[str, Any]) -> list[Answer]:
    return [
        answer for answer in store.answers()
        if all(answer[name] == value for name, value in asked.items())  # type: ignore[literal-required]
    ]  # fmt: skip


def _kind(answer: Answer) -> str:
    source = f"source {answer['source']}, " if answer["source"] else ""
    return f"{source}model {answer['model']}, version {answer['version']}"


def _list_kinds(kinds: Mapping[str, int]) -> str:
    return "; ".join(f"{kind} ({count:,})" for kind, count in kinds.items())


def write_profiles(
    answers: Mapping[str, Answer], path: Path, rename: Mapping[str, str] | None = None
) -> int:
    """JSON lines that ``python -m process.user_fields --profiles`` reads; returns their number.

    Args:
        answers: of a profiler, by user id.
        path: where the lines go.
        rename: field by key of the answer, where they differ.
    """
    names = rename or {}
    lines = []
    for key, answer in answers.items():
        fields = {
            names.get(name, name): value
            for name, value in answer["answer"].items()
            if value not in NO_ANSWER
        }
        lines.append(json.dumps({"user_id": key, **fields}, ensure_ascii=False) + "\n")
    write_text(path, "".join(lines))
    return len(lines)


def write_picks(answers: Mapping[str, Answer], requests: Requests, path: Path) -> int:
    """JSON lines of the clicks that stand for a history: ``{"user_id", "items"}``.

    Args:
        answers: of the history compressor.
        requests: that were answered, so that number n is the n-th click shown.
        path: where the lines go.
    """
    rows = {user: row for row, user in enumerate(requests.tables.vocabulary("user_id"))}
    ids = requests.tables.vocabulary("item_id")
    lines = []
    for key, answer in answers.items():
        if key not in rows:
            continue
        shown = requests.history_rows(rows[key])
        if max(answer["answer"]["picked"]) > len(shown):
            raise DataError(
                f"{path}: user {key!r} was shown a different history than in these tables"
            )
        picked = [ids[shown[number - 1]] for number in sorted(answer["answer"]["picked"])]
        lines.append(json.dumps({"user_id": key, "items": picked}) + "\n")
    write_text(path, "".join(lines))
    return len(lines)


def add_item_text(
    tables: Path,
    texts: Mapping[str, str],
    folder: Path,
    *,
    field: str,
    sources: Sequence[Path],
    fallback: str | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Write a copy of tables whose items have one text field more.

    Args:
        tables: finished tables.
        texts: by raw item id; others are left out.
        folder: where the copy goes.
        field: what the column is called.
        sources: the files that the texts come from.
        fallback: a text field that stands in where an item has no text; the new field is then
            that one rewritten, and later generated items copy it.
        force: replace finished tables of other sources or settings.

    Returns:
        The manifest.

    Raises:
        DataError: the field already exists, or no text is of an item of the tables.
    """
    refuse_nested(tables, folder)
    reader = ColumnReader(tables)
    _check_new_field(reader, field, fallback)
    ids = reader.vocabulary("item_id")
    known = sum(item in texts for item in ids)
    if not known:
        raise DataError(f"{tables}: none of the {len(texts):,} answers is about an item of it")
    other = reader.texts(fallback) if fallback else [""] * len(ids)
    column = [texts.get(item) or stand_in for item, stand_in in zip(ids, other, strict=True)]
    described = {"kind": "text", "tokenizers": list(reader.manifest["tokenizers"])}
    if fallback:
        described["summary_of"] = fallback
    made = {"item_text": {field: described}, "answers": fingerprint(texts)}
    origin = describe_origin(reader, made, sources)
    with output_lock(folder):
        finished = finished_tables(folder, origin["settings"], origin["sources"], force=force)
        if finished is not None:
            return finished
        columns = _encode(reader, pd.DataFrame({field: column}, dtype=object), (field,))
        with atomic_folder(folder) as part:
            writer = copy_of(reader, part)
            for name, encoded in columns.items():
                writer.lists("items", name, _as_lists(encoded), encoded.vocabulary)
            writer.texts(field, column)
            rewrite_unitok(part, reader, {"items": columns}, {}, ["items"])
            fields = reader.manifest["fields"] | {field: described}
            manifest = writer.manifest(**kept_entries(reader) | origin | {"fields": fields})
    print(f"{folder}: {field} of {known:,} of {len(ids):,} items")
    return manifest


def fingerprint(values: Mapping[str, Any]) -> str:
    """A hash of answers: another choice of them makes other tables."""
    return sha256_of_text(json.dumps(values, sort_keys=True, ensure_ascii=False))


def _check_new_field(reader: ColumnReader, field: str, fallback: str | None) -> None:
    fields = reader.manifest["fields"]
    if not field.isidentifier():
        raise DataError(f"--field {field!r}: letters, digits and '_' only")
    if field in fields or field in reader.manifest["vocabularies"] or field == "synthetic":
        raise DataError(f"--field {field!r}: the tables have a field or vocabulary of this name")
    if fallback is not None and fallback not in reader.text_fields:
        raise DataError(f"--fallback {fallback!r}: {nearest(fallback, reader.text_fields)}")


def describe_origin(
    reader: ColumnReader, made: Mapping[str, Any], sources: Iterable[Path]
) -> dict[str, Any]:
    """What decides the new tables, as the manifest has it."""
    genre = [*reader.manifest.get("genre", []), made]
    identity = {"parent": reader.manifest["fingerprint"], "genre": genre}
    described = [*reader.manifest["sources"], *describe_sources(sources)]
    return {**identity, "settings": reader.manifest.get("settings", {}) | identity,
            "sources": described}  # fmt: skip


def _encode(reader: ColumnReader, items: pd.DataFrame, texts: tuple[str, ...]) -> dict[str, Column]:
    """Text columns by every tokenizer of the tables."""
    tokenizers = load_tokenizers(reader.folder, reader.manifest)
    return encode_content(items, texts, {}, tokenizers)


def _as_lists(column: Column) -> RaggedArray:
    if not isinstance(column.values, Ragged):
        raise TypeError("a text column is made of lists")
    return column.values
