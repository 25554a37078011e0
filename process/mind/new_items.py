"""New items in the fields of finished tables, from any file that describes items.

Three forms are read, told by name and first line: MIND's ``news.tsv``; a TAB-separated file whose
first line names its columns, ``item_id`` and fields of the tables; JSON lines with the tables' own
field names or, for tables of Amazon, with the keys of Amazon's metadata files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from legos.errors import DataError, nearest
from legos.files import BoundedGzip
from process.amazon.metadata import read_metadata
from process.columns import ColumnReader
from process.json_lines import Row, read_json_lines
from process.mind.behaviors import read_news
from process.tsv import find_file, read_blocks

NAMES = ("news.tsv", "items.jsonl", "items.json", "items.tsv")
ID_KEYS = ("item_id", "parent_asin", "asin", "book_id", "news_id")
ALIASES = {"description": "abstract", "abstract": "description"}  # MIND's name and everyone else's
_PATHS = ("category", "subcategory", "categories")  # as strings they are what the tables hold
_AMAZON = ("amazon", "cllm4rec")  # layouts whose fields come from Amazon's metadata


class NewItems(NamedTuple):
    """Items as ``RawData.items`` has them, in the fields of the tables; what was odd; the file."""

    items: pd.DataFrame
    oddities: Counter[str]
    path: Path


class _Described(NamedTuple):
    """One line: its place, the item's id, and the values by key."""

    at: str
    item: str
    values: Mapping[str, Any]


def read_new_items(folder: Path, parent: ColumnReader, given: Path | None) -> NewItems | None:
    """Read the items that a folder of new impressions describes.

    Args:
        folder: of the new impressions.
        parent: the finished tables, whose fields the items get.
        given: the file, where it does not lie in that folder.

    Returns:
        One row an item, "" (of a number NaN) where a field is missing; None where nothing is
        described.

    Raises:
        DataError: several files, a damaged one, a line without an id or without any field of the
            tables; names file and line.
    """
    path = given or _find(folder)
    if path is None:
        return None
    fields = (*parent.text_fields, *parent.category_fields, *parent.number_fields)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if _is_json(path):
        items, oddities = _of_lines(_json_lines(path), fields)
        if str(parent.manifest["layout"]).startswith(_AMAZON):
            _fill_from_metadata(items, path, fields)
    elif _header(path)[0] in ID_KEYS:
        items, oddities = _of_lines(_table_lines(path), fields)
    else:
        items, oddities = _of_news(path, fields)
    frame = pd.DataFrame(
        {
            "item_id": list(items),
            **{name: [values.get(name, "") for values in items.values()] for name in fields},
        },
        dtype=object,
    )
    for name in fields:
        oddities[f"described items without {name}"] = int((frame[name] == "").sum())
    for name in parent.number_fields:
        frame[name] = _numbers(frame, name, path)
    return NewItems(frame, +oddities, path)


def _numbers(items: pd.DataFrame, name: str, path: Path) -> np.ndarray:
    """A number field as float32, NaN where it is empty."""
    cells = items[name].where(items[name] != "", "nan")
    numbers = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64)
    wrong = (np.isnan(numbers) & (items[name] != "").to_numpy()) | np.isinf(numbers)
    if wrong.any():
        item, cell = items.loc[wrong, ["item_id", name]].iloc[0]
        raise DataError(f"{path}: item {item!r}: {name} is {cell!r}, expected a number like 19.9")
    return numbers.astype(np.float32)


def _find(folder: Path) -> Path | None:
    found = [path for name in NAMES if (path := find_file(folder, name)) is not None]
    if len(found) > 1:
        raise DataError(
            f"{folder}: {' and '.join(path.name for path in found)} both describe items; keep one, "
            "or name one with --news FILE"
        )
    return found[0] if found else None


def _is_json(path: Path) -> bool:
    return path.name.removesuffix(".gz").endswith((".json", ".jsonl"))


def _of_lines(
    lines: Iterator[_Described], fields: tuple[str, ...]
) -> tuple[dict[str, dict[str, str]], Counter[str]]:
    """Fields by item id; the first line of an item counts."""
    items: dict[str, dict[str, str]] = {}
    oddities: Counter[str] = Counter()
    for at, item, values in lines:
        if item in items:
            oddities["items described again (the first line counts)"] += 1
            continue
        known = {name: _value(values, name) for name in fields}
        if fields and not any(known.values()) and not _PATHS_OR_ALIASES & set(values):
            wrong = next((key for key in values if key not in ID_KEYS), None)
            hint = f" ({wrong!r}: {nearest(wrong, fields)})" if wrong else ""
            raise DataError(
                f"{at}: item {item!r} has none of the tables' fields {', '.join(fields)}{hint}"
            )
        items[item] = {name: value for name, value in known.items() if value}
    return items, oddities


_PATHS_OR_ALIASES = frozenset({*_PATHS, *ALIASES, "main_category", "main_cat", "features", "store"})


def _value(values: Mapping[Any, Any], name: str) -> str:
    """A field as one line of text; of lists their parts, of anything else nothing."""
    for key in (name, ALIASES.get(name, name)):
        value = values.get(key)
        if isinstance(value, bool):
            continue
        if isinstance(value, int | float):
            value = str(value)
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            value = " ".join(value)
        if isinstance(value, str) and value.strip():
            return " ".join(value.split())
    return ""


def _fill_from_metadata(
    items: dict[str, dict[str, str]], path: Path, fields: tuple[str, ...]
) -> None:
    """Fields as Amazon's metadata reader makes them; strings of the tables' own stay.

    A category that is a string is what the tables hold, a list is a path of Amazon's.
    """
    strings = {
        line.item: {name for name in _PATHS if isinstance(line.values.get(name), str)}
        for line in _json_lines(path)
    }
    for item, made in read_metadata([path], frozenset(items)).items.items():
        own = {name: items[item][name] for name in strings[item] if name in items[item]}
        items[item] = {name: value for name, value in (made | own).items() if name in fields}


def _json_lines(path: Path) -> Iterator[_Described]:
    for row in read_json_lines([path], "reading new items", python_too=True):
        yield _Described(row.at, _item_id(row), row.values)


def _item_id(row: Row) -> str:
    for key in ID_KEYS:
        if key in row.values:
            item = row.id(key)
            if item and " " not in item:
                return item
            raise DataError(
                f"{row.at}: {key} {item!r} is empty or holds a space; "
                "behaviors.tsv could not name it"
            )
    raise DataError(f"{row.at}: no item id ({', '.join(ID_KEYS)}); found: {row.keys}")


def _header(path: Path) -> list[str]:
    """The cells of the first line."""
    with path.open("rb") as raw:
        file = BoundedGzip(path, raw) if path.suffix == ".gz" else raw
        try:
            first = file.readline(1 << 20).decode("utf-8-sig", "replace")
        except (EOFError, OSError) as error:
            raise DataError(f"{path}: incomplete gzip file ({error})") from None
    return first.rstrip("\r\n").split("\t")


def _table_lines(path: Path) -> Iterator[_Described]:
    names = _header(path)
    if len(set(names)) < len(names):
        raise DataError(f"{path}:1: a column occurs twice in {', '.join(names)}")
    for block in read_blocks(path, names):
        rows = zip(*block.columns.values(), strict=True)
        for number, cells in zip(block.numbers.tolist(), rows, strict=True):
            if number == 1:
                continue
            item, at = cells[0], f"{path}:{number}"
            if not item or " " in item:
                raise DataError(f"{at}: {names[0]} {item!r} is empty or holds a space")
            yield _Described(at, item, dict(zip(names[1:], cells[1:], strict=True)))


def _of_news(path: Path, fields: tuple[str, ...]) -> tuple[dict[str, dict[str, str]], Counter[str]]:
    news, oddities = read_news([path])
    items = {
        str(row["item_id"]): {name: _value(row, name) for name in fields}
        for row in news.to_dict("records")
    }
    return items, oddities
