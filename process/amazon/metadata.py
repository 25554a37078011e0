"""What the items are: metadata files of three releases and ``items.jsonl`` of the prepared sets."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from legos.errors import DataError
from process.json_lines import Row, read_json_lines

ITEM_KEYS = ("item_id", "parent_asin", "asin")
TEXT_KEYS = {  # field -> the keys it may have, the first one that is filled counts
    "title": ("title",),
    "authors": ("authors",),
    "description": ("description", "gpt_description"),
}
BRAND_KEYS = ("brand", "store")
PATH_KEYS = ("categories", "category")
TEXT_FIELDS = ("title", "authors", "description", "categories")
CATEGORY_FIELDS = ("brand", "category", "subcategory", "price")
_PRICE = re.compile(r"\$? ?(\d[\d,]*(?:\.\d+)?)")  # no ranges, nothing of a page's code
_PAGE_CODE = "getTime"  # scripts of the shop's pages that Amazon 2018 holds in place of titles


@dataclass
class Metadata:
    """Fields by item id, and what was odd.

    Attributes:
        items: item id -> field -> text, only filled fields.
        oddities: counts.
    """

    items: dict[str, dict[str, str]] = field(default_factory=dict)
    oddities: dict[str, int] = field(default_factory=dict)

    def titled(self, item_ids: Sequence[str]) -> list[bool]:
        """Which of the items have a title."""
        return [bool(self.items.get(item, {}).get("title")) for item in item_ids]


def read_metadata(paths: Sequence[Path], wanted: Collection[str]) -> Metadata:
    """Read the lines of the wanted items.

    Args:
        paths: metadata files, one JSON object (or Python dict, as in 2014) a line.
        wanted: ids of the items that matter.

    Of several lines of one item the fullest counts, wherever it stands.

    Raises:
        DataError: a damaged file or line; names file and line.
    """
    found: dict[str, dict[str, str]] = {}
    twice = 0
    for row in read_json_lines(paths, "reading metadata", python_too=True):
        item = _item_id(row)
        if item not in wanted:
            continue
        fields = _fields(row)
        twice += item in found
        found[item] = max(found.get(item, fields), fields, key=_fullness)
    code = [
        fields.pop("title") for fields in found.values() if _PAGE_CODE in fields.get("title", "")
    ]
    oddities = {
        "items described again, the fullest line kept": twice,
        "titles that are a page's code, taken as missing": len(code),
        "items without metadata": len(wanted) - len(found),
        "items without a title": sum("title" not in fields for fields in found.values()),
    }
    return Metadata(found, oddities)


def items_frame(
    item_ids: Sequence[str], items: Mapping[str, Mapping[str, str]]
) -> tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """The items as the table writer takes them.

    Returns:
        One row an item, "" where something is missing; the text fields and the category fields
        that at least one item has.
    """
    nothing: Mapping[str, str] = {}
    columns = {
        name: [items.get(item, nothing).get(name, "") for item in item_ids]
        for name in (*TEXT_FIELDS, *CATEGORY_FIELDS)
    }
    texts = tuple(name for name in TEXT_FIELDS if any(columns[name]))
    categories = tuple(name for name in CATEGORY_FIELDS if any(columns[name]))
    chosen = {name: columns[name] for name in (*texts, *categories)}
    return pd.DataFrame({"item_id": list(item_ids), **chosen}, dtype=object), texts, categories


def _item_id(row: Row) -> str:
    for key in ITEM_KEYS:
        if key in row.values:
            return row.text(key)
    found = ", ".join(sorted(row.values)) or "nothing"
    raise DataError(
        f"{row.path}:{row.line}: no item id ({', '.join(ITEM_KEYS)}) here; found: {found}"
    )


def _fullness(fields: Mapping[str, str]) -> tuple[int, int, list[tuple[str, str]]]:
    """Sorts descriptions of one item: fields, then characters, then the texts themselves."""
    return len(fields), sum(map(len, fields.values())), sorted(fields.items())


def _fields(row: Row) -> dict[str, str]:
    fields = {name: _first(row, keys) for name, keys in TEXT_KEYS.items()}
    fields["brand"] = _first(row, BRAND_KEYS)
    fields["price"] = _price(row.values.get("price"))
    paths = _paths(row)
    fields["categories"] = "; ".join(" > ".join(path) for path in paths)
    if paths:
        fields["category"] = paths[0][min(1, len(paths[0]) - 1)]
        fields["subcategory"] = paths[0][-1]
    return {name: value for name, value in fields.items() if value}


def _first(row: Row, keys: Sequence[str]) -> str:
    for key in keys:
        value = row.values.get(key)
        parts = value if isinstance(value, list) else [value]
        if not all(part is None or isinstance(part, str) for part in parts):
            raise DataError(
                f"{row.path}:{row.line}: {key!r} is {_shown(value)}, expected a string or a list "
                "of strings"
            )
        text = " ".join(" ".join(part.split()) for part in parts if part)
        if text:
            return text
    return ""


def _price(value: Any) -> str:
    """In dollars, with cents: ``$12.99``; empty where it is unknown or several."""
    found = _PRICE.fullmatch(str(value).strip()) if value else None
    return "" if found is None else f"${float(found[1].replace(',', '')):.2f}"


def _paths(row: Row) -> list[list[str]]:
    """Category paths, from the department down; empty where there are none."""
    value: Any = None
    for key in PATH_KEYS:
        value = value or row.values.get(key)
    if not value:
        return []
    if isinstance(value, str):
        value = [[value]]
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = [value]
    if not isinstance(value, list) or not all(
        isinstance(path, list) and all(isinstance(part, str) for part in path) for path in value
    ):
        raise DataError(
            f"{row.path}:{row.line}: the categories are {_shown(value)}, expected paths: lists of "
            "strings"
        )
    paths = [[" ".join(part.split()) for part in path if part.strip()] for path in value]
    return [path for path in paths if path]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
