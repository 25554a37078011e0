"""Small shops in files of any form, and their tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

import legos.tables
from process.columns import ColumnReader
from tests.shop import Shop, make_shop

SMALL = {"items": 120, "events": 900, "users": 40, "unclicked": 8, "unknown": 2}


def small_shop(language: str = "en") -> Shop:
    """120 items, 900 events, 40 users."""
    return make_shop(language, **SMALL)


def build(items: Any, events: Any, folder: Path, **options: Any) -> ColumnReader:
    """Tables cut by their own words, which is quick, unless told otherwise."""
    options = {"tokenizer": "words=words", **options}
    return ColumnReader(legos.tables.build(items, events, output=folder / "tables", **options))


def written(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    """A text file of lines."""
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return path


def clicks(tables: ColumnReader, split: str) -> list[tuple[str, list[str], str, list[str]]]:
    """User, history, the click and the others of every impression, as ids."""
    users, items = tables.vocabulary("user_id"), tables.vocabulary("item_id")
    states, shown = tables.lists("histories", "items"), tables.lists(split, "candidates")
    labels = tables.lists(split, "labels")
    found = []
    for row, (user, state) in enumerate(
        zip(tables.scalar(split, "user_id"), tables.scalar(split, "history"), strict=True)
    ):
        ids = [items[item] for item in shown.row(row)]
        own = labels.row(row) == 1
        clicked = " ".join(name for name, is_own in zip(ids, own, strict=True) if is_own)
        others = sorted(name for name, is_own in zip(ids, own, strict=True) if not is_own)
        found.append((users[user], [items[i] for i in states.row(state)], clicked, others))
    return sorted(found)


def fields(tables: ColumnReader) -> dict[str, str]:
    """Field -> kind."""
    return {name: field["kind"] for name, field in tables.manifest["fields"].items()}


def records(frame: pd.DataFrame) -> list[str]:
    """A JSON object a row, without what is missing."""
    rows = frame.to_dict(orient="records")
    return [
        json.dumps({k: v for k, v in row.items() if v == v and v is not None}, ensure_ascii=False)
        for row in rows
    ]
