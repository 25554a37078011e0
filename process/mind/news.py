"""``news.tsv``: one news article a line, eight columns without a header."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from legos.errors import DataError
from process.texts import plain_text
from process.ties import by_id
from process.tsv import Block, header_rows, read_blocks, refuse_repeated

NEWS_COLUMNS = (
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
_NEWS_ID_NAMES = ("news_id", "newsid", "nid", "item_id", "itemid", "id", "news")
_SPREADSHEET = re.compile(r'"(?:[^"]|"")*"')


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
    odd: Counter[str] = Counter()
    items = pd.concat([_read_file(path, odd) for path in paths], ignore_index=True)
    again = items["item_id"].duplicated()
    first = items[~again].reset_index(drop=True)
    rows = pd.Index(first["item_id"]).get_indexer(pd.Index(items.loc[again, "item_id"]))
    same = np.ones(len(rows), dtype=bool)
    for name in CONTENT:
        same &= items.loc[again, name].to_numpy() == first[name].to_numpy()[rows]
    oddities = odd + Counter(
        {
            "news whose content differs between files (the first one counts)": int((~same).sum()),
            **{f"news without {name}": int((first[name] == "").sum()) for name in CONTENT},
        }
    )
    ordered = first.iloc[by_id(first["item_id"].tolist())].reset_index(drop=True)
    return ordered, oddities


def _read_file(path: Path, oddities: Counter[str]) -> pd.DataFrame:
    frames, numbers = [], []
    for whole in read_blocks(path, NEWS_COLUMNS):
        block = whole.without(_news_headers(whole))
        oddities["header lines of news.tsv (skipped)"] += len(whole) - len(block)
        _require_ids(block)
        columns = {name: _texts(block.columns[name], oddities) for name in CONTENT}
        frames.append(pd.DataFrame({"item_id": block.columns["news id"], **columns}, dtype=object))
        numbers.append(block.numbers)
    items = pd.concat(frames, ignore_index=True)
    if len(items) == 0:
        raise DataError(f"{path}: a header line and nothing else, expected news")
    refuse_repeated(path, "news id", items["item_id"].to_numpy(), numbers)
    return items


def _news_headers(block: Block) -> np.ndarray:
    """``(k,)`` int64: the rows that name the columns instead of an article."""
    return header_rows(block, "news id", _NEWS_ID_NAMES, "category", "categor")


def _texts(texts: np.ndarray, oddities: Counter[str]) -> np.ndarray:
    """``(n,)`` str objects without markup and without the quotes that a spreadsheet doubled."""
    found = np.empty(len(texts), dtype=object)
    for row, text in enumerate(texts):
        if '""' in text and _SPREADSHEET.fullmatch(text):
            oddities["texts in quotes that a spreadsheet doubled (undone)"] += 1
            text = text[1:-1].replace('""', '"')
        found[row] = plain_text(text)
    return found


def _require_ids(block: Block) -> None:
    ids = block.columns["news id"]
    bad = np.flatnonzero(pd.Series(ids).str.contains(" ", regex=False) | (ids == ""))
    if len(bad):
        raise DataError(
            f"{block.at(int(bad[0]))}: news id {ids[bad[0]]!r} is empty or holds a space"
        )
