"""``news.tsv``: one news article a line, eight columns without a header."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from legos.errors import DataError
from process.ties import by_id
from process.tsv import Block, read_blocks

COLUMNS = (
    "news id",
    "category",
    "subcategory",
    "title",
    "abstract",
    "url",
    "title entities",
    "abstract entities",
)
TEXT_FIELDS = ("title", "abstract")
CATEGORY_FIELDS = ("category", "subcategory")
CONTENT = (*CATEGORY_FIELDS, *TEXT_FIELDS)


def read_news(paths: Sequence[Path]) -> tuple[pd.DataFrame, Counter[str]]:
    """Read and merge the news files of all folders.

    The same article may stand in several files; where its content differs the first one counts.

    Args:
        paths: ``news.tsv`` files, in the order of precedence.

    Returns:
        One row an article, by id: ``item_id``, category, subcategory, title, abstract (str,
        "" = missing); and what was odd.

    Raises:
        DataError: a damaged file, an empty id, or one id twice in a file.
    """
    items = pd.concat([_read_file(path) for path in paths], ignore_index=True)
    again = items["item_id"].duplicated()
    first = items[~again].reset_index(drop=True)
    rows = pd.Index(first["item_id"]).get_indexer(pd.Index(items.loc[again, "item_id"]))
    same = np.ones(len(rows), dtype=bool)
    for name in CONTENT:
        same &= items.loc[again, name].to_numpy() == first[name].to_numpy()[rows]
    oddities = Counter(
        {
            "news whose content differs between files (the first one counts)": int((~same).sum()),
            **{f"news without {name}": int((first[name] == "").sum()) for name in CONTENT},
        }
    )
    ordered = first.iloc[by_id(first["item_id"].tolist())].reset_index(drop=True)
    return ordered, +oddities


def _read_file(path: Path) -> pd.DataFrame:
    frames = []
    for block in read_blocks(path, COLUMNS):
        _require_ids(block)
        columns = {name: block.columns[name] for name in CONTENT}
        frames.append(pd.DataFrame({"item_id": block.columns["news id"], **columns}, dtype=object))
    items = pd.concat(frames, ignore_index=True)
    again = items["item_id"].duplicated()
    if again.any():
        line = int(np.flatnonzero(again)[0])
        name = items["item_id"].iloc[line]
        before = int(np.flatnonzero(items["item_id"] == name)[0])
        raise DataError(
            f"{path}:{line + 1}: news id {name!r} occurs twice, first in line {before + 1}"
        )
    return items


def _require_ids(block: Block) -> None:
    ids = block.columns["news id"]
    bad = np.flatnonzero(pd.Series(ids).str.contains(" ", regex=False) | (ids == ""))
    if len(bad):
        raise DataError(
            f"{block.at(int(bad[0]))}: news id {ids[bad[0]]!r} is empty or holds a space"
        )
