"""New items out of a DataFrame, in the fields of the tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from legos.data.new_items import NewItems
from legos.data.tables import Tables
from legos.data.texts import one_line
from legos.errors import DataError, nearest

_ID = "item_id"


def read_new_items(
    frame: Any, tables: Tables, reads: Sequence[str], known: Collection[str]
) -> NewItems:
    """Items as a frame describes them.

    Args:
        frame: a DataFrame with column (or index) ``item_id`` and fields of the tables, called as
            the tables call them or as the file did that these were made from; other columns are
            not read.
        tables: whose fields they get.
        reads: fields that the model reads.
        known: ids that are taken.

    Raises:
        DataError: no item, an id that is empty, taken or there twice, a text field that the model
            reads and no column has, an item without any text, a number that is none. Names the row.
    """
    frame = _by_tables_names(frame, tables)
    columns = list(map(str, frame.columns))
    kinds = {name: field["kind"] for name, field in tables.manifest["fields"].items()}
    read = [name for name in reads if name in kinds]
    must = [name for name in read if kinds[name] == "text"] or read
    for name in must:
        if name not in columns and kinds[name] == "text":
            raise DataError(
                f"new items: no column {name!r}, which the model reads; give it, with empty texts "
                f"where unknown ({nearest(name, columns)})"
            )
    ids = [_text(value) for value in frame[_ID].tolist()]
    _refuse_ids(ids, known)
    texts = {
        name: [_text(value) for value in frame[name].tolist()]
        if name in columns
        else [""] * len(ids)
        for name, kind in kinds.items()
        if kind != "number"
    }
    numbers = {
        name: _numbers(frame[name], ids) if name in columns else np.full(len(ids), np.nan, "f4")
        for name, kind in kinds.items()
        if kind == "number"
    }
    must = [name for name in must if name in texts]
    for row, item in enumerate(ids):
        if must and not any(texts[name][row] for name in must):
            raise DataError(f"new items, row {row} ({item!r}): {', '.join(must)}: all are empty")
    return NewItems(ids, texts, numbers)


def _by_tables_names(frame: Any, tables: Tables) -> pd.DataFrame:
    """The frame with columns called as the tables call them, ``item_id`` among them."""
    if not isinstance(frame, pd.DataFrame):
        kind = type(frame).__name__
        raise DataError(f"new items: found a {kind}, expected a pandas DataFrame with {_ID!r}")
    if _ID in frame.index.names and _ID not in frame:
        frame = frame.reset_index(_ID)
    called = tables.manifest.get("source_columns", {})  # what the items' own file calls them
    named: pd.DataFrame = frame.rename(
        columns={column: name for name, column in called.items() if name not in frame}
    )
    columns = list(map(str, named.columns))
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"new items: column {twice!r} occurs twice")
    if _ID not in columns:
        either = " or ".join(map(repr, dict.fromkeys((_ID, called.get(_ID, _ID)))))
        raise DataError(f"new items: no column {either}; found {', '.join(columns) or 'none'}")
    if named.empty:
        raise DataError("new items: the frame has no rows")
    return named


def _refuse_ids(ids: list[str], known: Collection[str]) -> None:
    seen: dict[str, int] = {}
    for row, item in enumerate(ids):
        if not item:
            raise DataError(f"new items, row {row}: {_ID} is empty")
        if item in known:
            raise DataError(f"new items, row {row}: {item!r} already exists; give another id")
        if item in seen:
            raise DataError(f"new items, row {row}: {item!r} is also in row {seen[item]}")
        seen[item] = row


def _text(value: Any) -> str:
    """A cell as one line of text without markup, as tables have it; of a list its parts."""
    if isinstance(value, list | tuple | np.ndarray):
        return " ".join(filter(None, map(_text, value)))
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # an id in a column with gaps
    return one_line(str(value))


def _numbers(column: pd.Series[Any], ids: list[str]) -> np.ndarray:
    with np.errstate(over="ignore"):
        found = pd.to_numeric(column, errors="coerce").to_numpy(np.float64).astype(np.float32)
    texts = [_text(value) for value in column.tolist()]
    for row, (number, text) in enumerate(zip(found, texts, strict=True)):
        if text and not np.isfinite(number):
            raise DataError(
                f"new items, row {row} ({ids[row]!r}): {column.name}: {text!r} is no number"
            )
    return found
