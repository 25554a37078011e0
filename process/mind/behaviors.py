"""MIND's two files: ``behaviors.tsv``, one impression a line, and ``news.tsv``, one article a line.

Millions of ids are cut and numbered in bulk; Python never looks at one line at a time.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np
import pandas as pd

from legos.data.ragged import Ragged, RaggedArray, stack
from legos.data.spans import Spans, split_at_spaces
from legos.data.texts import plain_text
from legos.errors import DataError
from process.raw import UNLABELLED
from process.ties import by_id
from process.tsv import Block, header_rows, read_blocks, refuse_repeated

COLUMNS = ("impression id", "user id", "time", "history", "candidates")
TIME_FORMAT = "%m/%d/%Y %I:%M:%S %p"  # 11/12/2019 2:14:46 PM
UNKNOWN_TIME = -1
DASH, ZERO, ONE = ord("-"), ord("0"), ord("1")

IN_NEWS = (
    "is not in news.tsv; add its line there, or leave such candidates out with "
    "--unknown-candidates drop"
)

_ID_NAMES = ("impression_id", "impressionid", "imp_id", "impid", "impression", "id")
UnknownCandidates = Literal["error", "drop"]


@dataclass(frozen=True)
class Behaviors:
    """A behaviors file in item rows, by impression id; ``n`` impressions, ``M`` candidates.

    Attributes:
        path: the file.
        impression_id: ``(n,)`` str objects, unique.
        user_id: ``(n,)`` str objects.
        time: ``(n,)`` int64 Unix seconds, -1 = empty.
        history: item rows, oldest first.
        candidates: item rows; -1 = not in news.tsv.
        labels: ``(M,)`` int8: 1, 0, or -1 when the file has no labels.
    """

    path: Path
    impression_id: np.ndarray
    user_id: np.ndarray
    time: np.ndarray
    history: RaggedArray
    candidates: RaggedArray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.impression_id)

    @property
    def labelled(self) -> bool:
        """Whether the candidates carry labels."""
        return bool(self.labels[0] != UNLABELLED)

    def by_id(self) -> Behaviors:
        """The impressions by their ids, numbers by their values, as MIND's own files have them."""
        order = by_id(self.impression_id)
        return self if (order == np.arange(len(order))).all() else self.take(order)

    def take(self, rows: np.ndarray) -> Behaviors:
        """Impressions by number (int64) or mask, in the order asked."""
        return Behaviors(
            path=self.path,
            impression_id=self.impression_id[rows],
            user_id=self.user_id[rows],
            time=self.time[rows],
            history=self.history.select(rows),
            candidates=self.candidates.select(rows),
            labels=Ragged(self.labels, self.candidates.offsets).select(rows).values,
        )


def read_behaviors(
    path: Path,
    items: pd.Index,
    *,
    unknown_candidates: UnknownCandidates = "error",
    cure: str = IN_NEWS,
) -> tuple[Behaviors, Counter[str]]:
    """Read one behaviors file.

    Args:
        path: ``behaviors.tsv`` or ``behaviors.tsv.gz``.
        items: the known item ids; position = item row.
        unknown_candidates: ``error`` refuses a candidate that is not in ``items``; ``drop`` keeps
            it as -1 for the caller to drop.
        cure: what an error says of such a candidate: where it is not, and what to do.

    Returns:
        The impressions and what was odd.

    Raises:
        DataError: with file and line: damaged text, an empty or repeated impression id, a bad time,
            a bad or missing label, no candidates, an unknown candidate.
    """
    oddities: Counter[str] = Counter()
    blocks: list[Behaviors] = []
    numbers: list[np.ndarray] = []
    for whole_block in read_blocks(path, COLUMNS):
        block = whole_block.without(_headers(whole_block))
        oddities["header lines of behaviors.tsv (skipped)"] += len(whole_block) - len(block)
        if len(block) == 0:
            continue
        labelled = blocks[0].labelled if blocks else None
        blocks.append(_parse(block, items, labelled, unknown_candidates, oddities, cure))
        numbers.append(block.numbers)
    if not blocks:
        raise DataError(f"{path}: a header line and nothing else, expected impressions")
    whole = Behaviors(
        path=path,
        impression_id=np.concatenate([block.impression_id for block in blocks]),
        user_id=np.concatenate([block.user_id for block in blocks]),
        time=np.concatenate([block.time for block in blocks]),
        history=stack([block.history for block in blocks]),
        candidates=stack([block.candidates for block in blocks]),
        labels=np.concatenate([block.labels for block in blocks]),
    )
    refuse_repeated(path, "impression id", whole.impression_id, numbers)
    oddities["impressions with an empty history"] += int((whole.history.lengths == 0).sum())
    oddities["impressions without time"] += int((whole.time == UNKNOWN_TIME).sum())
    return whole.by_id(), +oddities


def _parse(
    block: Block,
    items: pd.Index,
    labelled: bool | None,
    unknown_candidates: UnknownCandidates,
    oddities: Counter[str],
    cure: str,
) -> Behaviors:
    empty = np.flatnonzero(block.columns["impression id"] == "")
    if len(empty):
        raise DataError(f"{block.at(int(empty[0]))}: the impression id is empty")
    spans = split_at_spaces(block.columns["candidates"])
    labels = _labels(block, spans, labelled)
    if labels[0] != UNLABELLED:
        spans = spans.without_end(len("-1"))
    codes, names = spans.factorize()
    candidates = items.get_indexer(pd.Index(names, dtype=object)).astype(np.int32)[codes]
    unknown = np.flatnonzero(candidates < 0)
    if len(unknown) and unknown_candidates == "error":
        raise DataError(
            f"{block.at(int(spans.rows[unknown[0]]))}: candidate {spans.text(int(unknown[0]))!r} "
            f"{cure}"
        )
    _count_repeated(spans, codes, labels, oddities)
    return Behaviors(
        path=block.path,
        impression_id=block.columns["impression id"],
        user_id=_users(block, oddities),
        time=_times(block),
        history=_histories(block, items, oddities),
        candidates=Ragged(candidates, spans.offsets),
        labels=labels,
    )


def _headers(block: Block) -> np.ndarray:
    """``(k,)`` int64: the rows that name the columns instead of an impression."""
    return header_rows(block, "impression id", _ID_NAMES, "user id", "user")


def _users(block: Block, oddities: Counter[str]) -> np.ndarray:
    """``(n,)`` str objects; an impression without a user has one of its own."""
    users = block.columns["user id"]
    empty = np.flatnonzero(users == "")
    if not len(empty):
        return users
    oddities["impressions without a user id (each a user of its own)"] += len(empty)
    users = users.copy()
    folder, ids = block.path.parent.name, block.columns["impression id"]
    users[empty] = [f"anonymous {folder}/{name}" for name in ids[empty]]
    return users


def _count_repeated(
    spans: Spans, codes: np.ndarray, labels: np.ndarray, oddities: Counter[str]
) -> None:
    """Count the candidates that an impression lists again; they are kept as they are."""
    keys = (spans.rows << 33) | (codes.astype(np.int64) << 1) | (labels == 1)
    keys.sort()
    again = (keys[1:] >> 1) == (keys[:-1] >> 1)
    both = again & (keys[1:] != keys[:-1])
    oddities["candidates listed again in an impression (kept)"] += int(again.sum())
    oddities["candidates of both labels in an impression (kept)"] += int(both.sum())


def _labels(block: Block, spans: Spans, labelled: bool | None) -> np.ndarray:
    """``(M,)`` int8; whether a file is labelled is decided by its first block."""
    none = np.flatnonzero(np.diff(spans.offsets) == 0)
    if len(none):
        raise DataError(f"{block.at(int(none[0]))}: the impression has no candidates")
    last = spans.from_end(1)
    has_label = (spans.from_end(2) == DASH) & ((last == ZERO) | (last == ONE))
    if labelled is None:
        labelled = bool(has_label.any())
    wrong = np.flatnonzero(has_label != labelled)
    if len(wrong):
        _refuse_label(block, spans, int(wrong[0]), labelled)
    if labelled:
        bare = np.flatnonzero(spans.ends - spans.starts == len("-1"))
        if len(bare):
            _refuse_label(block, spans, int(bare[0]), labelled)
        return (last - ZERO).astype(np.int8)
    return np.full(len(spans), UNLABELLED, dtype=np.int8)


def _refuse_label(block: Block, spans: Spans, index: int, labelled: bool) -> NoReturn:
    expected = (
        "an id, '-' and the label 0 or 1, as elsewhere in this file"
        if labelled
        else "an id without a label, as before in this file"
    )
    raise DataError(
        f"{block.at(int(spans.rows[index]))}: candidate {spans.text(index)!r}, expected {expected}"
    )


def _times(block: Block) -> np.ndarray:
    """``(n,)`` int64 Unix seconds, -1 where the column is empty."""
    codes, texts = pd.factorize(block.columns["time"])
    parsed = pd.to_datetime(pd.Series(texts, dtype=object), format=TIME_FORMAT, errors="coerce")
    bad = np.flatnonzero(parsed.isna().to_numpy() & (texts != ""))
    if len(bad):
        row = int(np.flatnonzero(codes == bad[0])[0])
        raise DataError(
            f"{block.at(row)}: time {texts[bad[0]]!r}, expected MIND's form "
            "'11/12/2019 2:14:46 PM' or nothing"
        )
    seconds = parsed.to_numpy().astype("datetime64[s]").astype(np.int64)
    return np.where(texts == "", UNKNOWN_TIME, seconds)[codes]


def _histories(block: Block, items: pd.Index, oddities: Counter[str]) -> RaggedArray:
    """Item rows of every history; equal histories are parsed once, unknown items left out."""
    codes, texts = pd.factorize(block.columns["history"])
    spans = split_at_spaces(texts)
    tokens, names = spans.factorize()
    rows = items.get_indexer(pd.Index(names, dtype=object)).astype(np.int32)[tokens]
    every = Ragged(rows, spans.offsets)
    known = every.keep(rows >= 0)
    times = np.bincount(codes, minlength=len(texts))  # impressions of each distinct history
    oddities["history items absent from news.tsv (left out)"] += int(
        times @ (every.lengths - known.lengths)
    )
    oddities["duplicate history items (kept)"] += int(
        times @ (known.lengths - _distinct_values(known))
    )
    return known.select(codes)


def _distinct_values(lists: RaggedArray) -> np.ndarray:
    """``(n,)`` int64 how many different values each list has."""
    pairs = np.sort((lists.rows << 32) | lists.values)
    new = np.ones(len(pairs), dtype=bool)
    new[1:] = pairs[1:] != pairs[:-1]
    return np.bincount(pairs[new] >> 32, minlength=len(lists.offsets) - 1)


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
        columns = {name: clean_texts(block.columns[name], oddities) for name in CONTENT}
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


def clean_texts(texts: np.ndarray, oddities: Counter[str]) -> np.ndarray:
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
