"""What the items are: metadata files of three releases and ``items.jsonl`` of the prepared sets."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from legos.data.texts import one_line
from process.bad_lines import BadLine, BadLines
from process.described import Described, text_block
from process.json_blocks import Lines, read_blocks
from process.json_lines import Row
from process.spilled_texts import TextBlock

ITEM_KEYS = ("item_id", "parent_asin", "asin")
TEXT_KEYS = {  # field -> the keys it may have, the first one that is filled counts
    "title": ("title",),
    "authors": ("authors",),
    "description": ("description", "gpt_description", "features", "feature"),
}
BRAND_KEYS = ("brand", "store")
PATH_KEYS = ("categories", "category", "main_category", "main_cat")
TEXT_FIELDS = ("title", "authors", "description", "categories")
CATEGORY_FIELDS = ("brand", "category", "subcategory", "price")
_PRICE = re.compile(r"\$? ?(\d[\d,]*(?:\.\d+)?)")  # no ranges, nothing of a page's code
_ALT = re.compile(
    r"<img\b[^<>]*\balt=[\"']([^\"'<>]*)[\"'][^<>]*>", re.IGNORECASE
)  # a shelf's logo
_PAGE_CODE = "getTime"  # scripts of the shop's pages that Amazon 2018 holds in place of titles


FIELDS = (*TEXT_FIELDS, *CATEGORY_FIELDS)


@dataclass
class Metadata:
    """What files say of items, and what was odd.

    Attributes:
        items: fields by item id.
        oddities: counts.
    """

    items: Described = field(default_factory=lambda: described())
    oddities: dict[str, int] = field(default_factory=dict)


def described(items: Mapping[str, Mapping[str, str]] | None = None) -> Described:
    """Items with the fields of this module, at first those given."""
    found = Described(FIELDS, _fullness)
    for item, fields in (items or {}).items():
        found.add([item], text_block([fields], FIELDS))
    return found


class _Items(NamedTuple):
    """The lines of a block: item ids, their fields, and which are faulty or had code for titles."""

    items: list[str]
    texts: TextBlock
    faulty: list[bool]
    code: list[bool]


def read_metadata(
    paths: Sequence[Path], wanted: Collection[str] | None, bad: BadLines | None = None
) -> Metadata:
    """Read the lines of the wanted items.

    Of several lines of one item the fullest counts, wherever it stands.

    Args:
        paths: metadata files, one JSON object (or Python dict, as in 2014) a line.
        wanted: ids of the items that matter; None = all.
        bad: counts the lines that cannot be read; without it the default share may be bad.

    Raises:
        DataError: a damaged file, or too many bad lines; names file and line.
    """
    bad = bad or BadLines()

    def is_unwanted(item: str) -> bool:
        return wanted is not None and item not in wanted

    found = described()
    twice = code = others = 0
    for part in read_blocks(
        paths, "reading metadata", parse_items, bad, python_too=True, overlooked=is_unwanted
    ):
        unwanted = np.fromiter(map(is_unwanted, part.items), dtype=bool, count=len(part.items))
        left_out = unwanted | np.array(part.faulty, dtype=bool)
        others += int(unwanted.sum())
        code += int((np.array(part.code, dtype=bool) & ~left_out).sum())
        kept = [None if out else item for item, out in zip(part.items, left_out, strict=True)]
        twice += found.add(kept, part.texts)
    bad.check()
    oddities = {
        "items described again, the fullest line kept": twice,
        "titles that are a page's code, taken as missing": code,
        "items without a title": int((~found.titled(list(found))).sum()),
        **{f"{what} (metadata)": count for what, count in bad.oddities().items()},
    }
    if others:
        oddities["lines about items that nobody clicked, left out"] = others
    return Metadata(found, oddities)


def parse_items(lines: Lines, _: None) -> tuple[_Items, bool]:
    """The items of a block; a faulty line has no fields."""
    items, faults, codes = list[str](), list[bool](), list[bool]()
    every: list[Mapping[str, str]] = []
    for row in lines:
        item, fields, faulty = "", dict[str, str](), False
        try:
            item = _item_id(row)
            fields = _fields(row)
        except BadLine as error:
            lines.refuse(error, item)
            if not item:
                continue
            faulty = True
        has_code = _PAGE_CODE in fields.get("title", "")
        if has_code:
            del fields["title"]
        items.append(item)
        faults.append(faulty)
        codes.append(has_code)
        every.append(fields)
    return _Items(items, text_block(every, FIELDS), faults, codes), True


class ItemFields(NamedTuple):
    """The items as the table writer takes them.

    Attributes:
        frame: one row an item, ``item_id`` and categories; "" where one is missing.
        texts: of each text field that some item has, one an item.
        categories: the category fields that some item has.
    """

    frame: pd.DataFrame
    texts: Mapping[str, Sequence[str]]
    categories: tuple[str, ...]


def item_fields(item_ids: Sequence[str], items: Described) -> ItemFields:
    """The fields of items in the order of ``item_ids``."""
    columns = items.columns(item_ids)
    texts = {name: columns[name] for name in TEXT_FIELDS if name in columns}
    frame = pd.DataFrame({"item_id": list(item_ids)}, dtype=object)
    for name in CATEGORY_FIELDS:
        if name in columns:
            frame[name] = np.array(list(map(sys.intern, columns[name])), dtype=object)
    return ItemFields(frame, texts, tuple(name for name in CATEGORY_FIELDS if name in columns))


def _item_id(row: Row) -> str:
    for key in ITEM_KEYS:
        if key in row.values:
            return row.id(key)
    keys = ", ".join(ITEM_KEYS)
    raise BadLine(row.at, "no item id", f"no item id ({keys}) here; found: {row.keys[:200]}")


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
    """The first of the keys that is filled; the release of 2023 writes nothing as "None"."""
    texts = (row.text(key) for key in keys)
    return next((text for text in texts if text and text != "None"), "")


def _price(value: Any) -> str:
    """In dollars, with cents: ``$12.99``; empty where it is unknown or several."""
    found = _PRICE.fullmatch(str(value).strip()) if value else None
    return "" if found is None else f"${float(found[1].replace(',', '')):.2f}"


def _paths(row: Row) -> list[list[str]]:
    """Category paths, from the department down; empty where there are none."""
    for key in PATH_KEYS:
        value = row.values.get(key)
        if not value or value != value:  # NaN stands for nothing
            continue
        parts = value if isinstance(value, list) else [value]
        whole = parts if all(isinstance(part, list) for part in parts) else [parts]
        paths = [path for path in (_path(row, key, path) for path in whole) if path]
        if paths:
            return paths
    return []


def _path(row: Row, key: str, parts: Sequence[Any]) -> list[str]:
    """The shelves of one path; what follows the end of a page's tags is no category."""
    path = []
    for part in parts:
        if part is None:
            continue
        if isinstance(part, bool) or not isinstance(part, str | int | float):
            raise row.bad(key, "paths: lists of strings")
        shelf = one_line(_ALT.sub(r"\1", str(part)))
        if not shelf and str(part).strip():
            break
        if shelf:
            path.append(shelf)
    return path
