"""Items that a model wrote for one user, in a copy of the tables: content, and whose they are.

They are in the item vocabulary, so that a history can hold them, and flagged in the items' column
``synthetic``, so that nothing ever offers them: no candidate, no sampled negative. A list column of
the users names each user's; whether and where a history holds them is said by ``generated_items``
of a data YAML, so that the same tables serve with and without them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from legos.data.ragged import Ragged, RaggedArray, from_lengths, stack
from legos.data.tokenizers import load_tokenizers
from legos.errors import DataError, nearest
from legos.files import atomic_folder, output_lock
from process.columns import ColumnReader, ColumnWriter
from process.derived import columns_of, copy_of, kept_entries, refuse_nested, rewrite_unitok
from process.genre.export import describe_origin, fingerprint
from process.genre.types import Answer
from process.summary import finished_tables
from process.tokenization import Column, encode_content

PREFIX = "GENRE:"
COLUMN = "synthetic"
_KEY = re.compile(r"(.+)#(\d+)", re.DOTALL)


@dataclass
class _New:
    """The items to add, and whose they are."""

    items: pd.DataFrame
    """``item_id`` and every field of the tables, "" where the model wrote nothing."""
    users: list[int]
    oddities: Counter[str] = field(default_factory=Counter)


def add_synthetic_items(
    tables: Path,
    answers: Mapping[str, Answer],
    folder: Path,
    *,
    sources: Sequence[Path],
    column: str,
    rename: Mapping[str, str] | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Write a copy of tables whose users have a column of items that a model wrote for them.

    Where a data YAML puts them into histories, every state of such a user gets them, those of
    earlier training impressions too: there the model may have seen the target, as in ONCE.

    Args:
        tables: finished tables.
        answers: of a generator, by ``<user>#<round>``.
        folder: where the copy goes.
        sources: the files that the answers come from.
        column: of table ``users``; part of the items' ids.
        rename: table field by key of the answer, where they differ.
        force: replace finished tables of other sources or settings.

    Returns:
        The manifest.

    Raises:
        DataError: the tables have a column of this name, or no answer fits them.
    """
    refuse_nested(tables, folder)
    reader = ColumnReader(tables)
    if not column.isidentifier() or column in reader.manifest["tables"]["users"]["columns"]:
        raise DataError(
            f"--column {column!r}: letters, digits and '_' only, and no column that users have"
        )
    new = _new_items(reader, answers, column, dict(rename or {}))
    texts = {key: answer["answer"] for key, answer in answers.items()}
    made = {
        "synthetic_items": {"column": column, "rename": dict(rename or {})},
        "answers": fingerprint(texts),
    }
    origin = describe_origin(reader, made, sources)
    with output_lock(folder):
        finished = finished_tables(folder, origin["settings"], origin["sources"], force=force)
        if finished is not None:
            return finished
        manifest = _write_copy(reader, new, folder, column, origin)
    _print(folder, new)
    return manifest


def _write_copy(
    reader: ColumnReader, new: _New, folder: Path, column: str, origin: dict[str, Any]
) -> dict[str, Any]:
    """The tables with the new items at the end; returns their manifest."""
    items = _extended_items(reader, new)
    written = _of_users(reader, new)
    ids = [*reader.vocabulary("item_id"), *new.items["item_id"]]
    with atomic_folder(folder) as part:
        writer = copy_of(reader, part)
        _write_items(writer, items, len(ids))
        writer.lists("users", column, written, "item_id")
        writer.vocabulary("item_id", ids)
        for name in reader.manifest["fields"]:
            if (reader.folder / f"columns/items/{name}.json").is_file():
                writer.texts(name, [*reader.texts(name), *new.items[name]])
        changed = {"items": items, "users": {column: Column(written, "item_id")}}
        everything = list(reader.manifest["tables"])
        rewrite_unitok(part, reader, changed, {"item_id": ids}, everything)
        kept = kept_entries(reader)
        oddities = {**kept.get("oddities", {}), **new.oddities}
        summary = kept.get("summary", {}) | {"items": len(ids)}
        return writer.manifest(**kept | origin | {"oddities": oddities, "summary": summary})


def _new_items(
    reader: ColumnReader, answers: Mapping[str, Answer], column: str, rename: Mapping[str, str]
) -> _New:
    fields = reader.manifest["fields"]
    for target in rename.values():
        if target not in fields:
            raise DataError(
                f"--field: the tables have no field {target!r}; {nearest(target, fields)}"
            )
    rows = {user: row for row, user in enumerate(reader.vocabulary("user_id"))}
    items: list[dict[str, str]] = []
    users: list[int] = []
    oddities: Counter[str] = Counter()
    for key, answer in sorted(answers.items()):
        match = _KEY.fullmatch(key)
        if match is None or match[1] not in rows:
            oddities["generated items of users that the tables do not have"] += 1
            continue
        values = {rename.get(name, name): str(text) for name, text in answer["answer"].items()}
        oddities["generated items: parts without a field"] += len(set(values) - set(fields))
        items.append({"item_id": f"{PREFIX}{column}:{key}", **_content(values, fields)})
        users.append(rows[match[1]])
    if not any(item[name] for item in items for name in reader.text_fields):
        raise DataError(
            f"{reader.folder}: none of the {len(answers):,} answers is of a user and has a text "
            f"field of these tables ({', '.join(reader.text_fields)}); --field ANSWER=FIELD names "
            "what differs"
        )
    frame = pd.DataFrame(items, columns=["item_id", *fields], dtype=object)
    _count_titles(reader, frame, oddities)
    return _New(frame, users, +oddities)


def _content(values: Mapping[str, str], fields: Mapping[str, Any]) -> dict[str, str]:
    """A value for every field; a summary of a field is that field itself."""
    found = {name: " ".join(values.get(name, "").split()) for name in fields}
    for name, described in fields.items():
        if not found[name] and "summary_of" in described:
            found[name] = found[described["summary_of"]]
    return found


def _count_titles(reader: ColumnReader, frame: pd.DataFrame, oddities: Counter[str]) -> None:
    name = reader.text_fields[0]
    texts = np.array(reader.texts(name), dtype=object)
    if COLUMN in reader.manifest["tables"]["items"]["columns"]:
        texts = texts[~reader.scalar("items", COLUMN)]
    real = {text.lower() for text in texts}
    same = sum(text.lower() in real for text in frame[name])
    oddities[f"generated items with the {name} of a real one"] = same
    oddities[f"generated items with the {name} of another"] = len(frame) - frame[name].nunique()


def _extended_items(reader: ColumnReader, new: _New) -> dict[str, Column]:
    """Every item column, the new items' rows at its end."""
    tokenizers = load_tokenizers(reader.folder, reader.manifest)
    categories = {name: reader.vocabulary(name) for name in reader.category_fields}
    added = encode_content(new.items, reader.text_fields, categories, tokenizers)
    for name, vocabulary in categories.items():
        unknown = int((~new.items[name].isin(["", *vocabulary])).sum())
        if unknown:
            new.oddities[f"generated items of a {name} the tables do not have"] = unknown
    columns: dict[str, Column] = {}
    num_known = int(reader.manifest["tables"]["items"]["rows"])
    for name, known in columns_of(reader, "items").items():
        if isinstance(known.values, Ragged):
            tail: Any = added[name].values
            columns[name] = Column(stack([known.values, tail]), known.vocabulary)
        else:
            tail = (
                added[name].values if name in added else _plain(name, known.values, len(new.items))
            )
            values = np.concatenate([known.values, tail]).astype(known.values.dtype)
            columns[name] = Column(values, known.vocabulary)
    if COLUMN not in columns:
        columns[COLUMN] = Column(np.arange(num_known + len(new.items)) >= num_known)
    return columns


def _plain(name: str, known: np.ndarray, count: int) -> np.ndarray:
    """What a column that is no text and no category says of new items; of a number nothing."""
    if name == "item_id":
        return np.arange(len(known), len(known) + count)
    if name == COLUMN:
        return np.ones(count, dtype=bool)
    return np.full(count, np.nan) if known.dtype.kind == "f" else np.zeros(count)


def _of_users(reader: ColumnReader, new: _New) -> RaggedArray:
    """The new items of every user, in the order of their rounds."""
    first = int(reader.manifest["tables"]["items"]["rows"])
    users = np.array(new.users, dtype=np.int64)
    order = np.argsort(users, kind="stable")
    lengths = np.bincount(users, minlength=len(reader.vocabulary("user_id")))
    return from_lengths((first + order).astype(np.int32), lengths)


def _write_items(writer: ColumnWriter, columns: Mapping[str, Column], rows: int) -> None:
    writer.tables["items"] = {"rows": rows, "columns": {}}
    writer.columns("items", columns)


def _print(folder: Path, new: _New) -> None:
    print(f"{folder}: {len(new.items):,} generated items of {len(set(new.users)):,} users")
    for what, count in new.oddities.items():
        print(f"  {what}: {count:,}")
