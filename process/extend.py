"""New raw data in the ids of finished tables: known items and users first, new ones appended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from legos.data.ragged import Ragged, RaggedArray, stack
from legos.data.tokenizers import TextTokenizer
from legos.errors import DataError
from process.columns import ColumnReader
from process.raw import RawData
from process.tokenization import Column, Encoded, encode_content, encode_interactions

IMPRESSIONS = "impressions"


def in_ids_of(parent: ColumnReader, raw: RawData) -> RawData:
    """The new data with the parent's items and users first, and every id renumbered."""
    if len(raw.splits) != 1:
        raise DataError(f"new impressions are one split, found {', '.join(raw.splits)}")
    fields = (*parent.text_fields, *parent.category_fields, *parent.number_fields)
    missing = set(fields) - set(raw.items)
    if missing:
        raise DataError(
            f"new items lack {', '.join(sorted(missing))}, which {parent.folder} has as fields"
        )
    known = parent.items()
    item_rows = _extend(known["item_id"].to_numpy(), raw.items["item_id"].to_numpy())
    users = np.array(parent.vocabulary("user_id"), dtype=object)
    new_users = np.array([str(user) for user in raw.users], dtype=object)
    user_rows = _extend(users, new_users)
    new_items = raw.items[item_rows >= len(known)][list(known)]
    rows = next(iter(raw.splits.values()))
    return replace(
        raw,
        items=pd.concat([known, new_items], ignore_index=True),
        text_fields=parent.text_fields,
        category_fields=parent.category_fields,
        number_fields=parent.number_fields,
        user_fields=None,
        users=np.concatenate([users, new_users[user_rows >= len(users)]]),
        splits={
            IMPRESSIONS: replace(
                rows,
                user=user_rows[rows.user].astype(np.int32),
                history_values=item_rows[rows.history_values].astype(np.int32),
                candidate_values=item_rows[rows.candidate_values].astype(np.int32),
            )
        },
    )


def _extend(known: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """``(len(ids),)`` row of each id in the known ones followed by the unknown ones."""
    rows: np.ndarray = pd.Index(known, dtype=object).get_indexer(pd.Index(ids, dtype=object))
    unknown = rows < 0
    rows[unknown] = len(known) + np.arange(unknown.sum())
    return rows


def encode_with(
    parent: ColumnReader, raw: RawData, tokenizers: Mapping[str, TextTokenizer]
) -> Encoded:
    """Every table, the parent's item columns kept and the new items' appended."""
    encoded = encode_interactions(raw)
    vocabularies = {name: parent.vocabulary(name) for name in parent.category_fields}
    num_known = int(parent.manifest["tables"]["items"]["rows"])
    new = raw.items.iloc[num_known:]
    made = encode_content(new, (), vocabularies, {}, parent.number_fields)
    for name, described in parent.manifest["tables"]["items"]["columns"].items():
        if described["vocabulary"] in tokenizers:
            text, label = name.split("@")[0], described["vocabulary"]
            tokens = tokenizers[label].encode(new[text].tolist(), f"{text} ({label})")
            made[name] = Column(tokens, label)
    for name, column in made.items():
        if isinstance(column.values, Ragged):
            values: RaggedArray | np.ndarray = stack([parent.lists("items", name), column.values])
        else:
            unknown = int(((column.values == 0) & (new[name] != "").to_numpy()).sum())
            if unknown and column.vocabulary is not None:
                raw.oddities[f"new items of a {name} the trained set does not know"] = unknown
            values = np.concatenate([parent.scalar("items", name), column.values])
        encoded.tables["items"][name] = Column(values, column.vocabulary)
    encoded.vocabularies |= vocabularies
    if "synthetic" in parent.manifest["tables"]["items"]["columns"]:
        flags = parent.scalar("items", "synthetic")
        values = np.concatenate([flags, np.zeros(len(new), flags.dtype)])
        encoded.tables["items"]["synthetic"] = Column(values)
    encoded.tables["users"] |= _user_fields(parent, len(encoded.vocabularies["user_id"]))
    for name, column in encoded.tables["users"].items():
        if name == "user_id" or isinstance(column.values, Ragged):
            continue
        if column.vocabulary is not None:
            encoded.vocabularies[column.vocabulary] = parent.vocabulary(column.vocabulary)
    return encoded


def _user_fields(parent: ColumnReader, count: int) -> dict[str, Column]:
    """What the parent's users say of themselves; new users say nothing."""
    columns: dict[str, Column] = {}
    for name, described in parent.manifest["tables"]["users"]["columns"].items():
        if name == "user_id":
            continue
        if described["kind"] == "list":
            known = parent.lists("users", name)
            nothing = np.zeros(count - len(known.lengths) + 1, dtype=np.int64)
            values: RaggedArray | np.ndarray = stack([known, Ragged(known.values[:0], nothing)])
        else:
            scalars = parent.scalar("users", name)
            unknown = np.nan if scalars.dtype.kind == "f" else 0
            added = np.full(count - len(scalars), unknown, scalars.dtype)
            values = np.concatenate([scalars, added])
        columns[name] = Column(values, described["vocabulary"])
    return columns
