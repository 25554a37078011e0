"""EB-NeRD, the log of Ekstra Bladet (Kruse et al., RecSys Challenge 2024, arXiv 2410.03432).

::

    articles.parquet        article_id, title, subtitle, body, category_str, topics, ...
    train/ validation/      behaviors.parquet  impression_id, user_id, impression_time,
                                               article_ids_inview, article_ids_clicked, ...
                            history.parquet    user_id, article_id_fixed, ... (oldest first)
    test/                   the same without clicks; optional

The columns are those of ``ebrec.utils._constants`` of the authors' repository. What an article says
of its own success (total_inviews, total_pageviews, total_read_time) was counted over all days, the
test's among them, and is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from legos.data.ragged import Ragged, RaggedArray, offsets_of, stack
from legos.errors import DataError, nearest
from legos.progress import progress_bar
from process.bad_lines import BadLine, BadLines
from process.moments import A_DAY, UNKNOWN_TIME
from process.published.choices import Choices
from process.published.layout import ShownLayout
from process.raw import UNLABELLED, Impressions, RawData
from process.table.fields import Kind
from process.table.rows import Rows, read_rows
from process.table.sources import ROWS_A_BLOCK, open_source
from process.tsv import require_file

FIELDS: dict[str, Kind] = {
    "title": "text", "subtitle": "text", "body": "text", "topics": "list",
    "category_str": "category", "article_type": "category", "premium": "category",
    "sentiment_label": "category",
}  # fmt: skip
RULE = "validation is test; the last 24 hours of train are valid"
LONGEST = 100  # articles that a stored history keeps, the newest
BEYOND = "is_beyond_accuracy"  # rows of test that show the same 250 articles to everybody
_SHOWN, _CLICKED = "article_ids_inview", "article_ids_clicked"


def find(folder: Path, choices: Choices) -> ShownLayout | None:
    """The layout of a folder; None: it is none of EB-NeRD."""
    if not (folder / "articles.parquet").is_file() or not (folder / "train").is_dir():
        return None
    return ShownLayout("ebnerd", lambda name, max_bad: read_ebnerd(folder, name, choices, max_bad))


@dataclass(frozen=True)
class _Log:
    """Impressions of a file, users still as ids; ``n`` of them.

    Attributes:
        ids, user: ``(n,)`` int64.
        time: ``(n,)`` int64 Unix seconds.
        shown: item rows.
        labels: as long as the values of ``shown``: 1, 0, or -1 without clicks in the file.
    """

    ids: np.ndarray
    user: np.ndarray
    time: np.ndarray
    shown: RaggedArray
    labels: np.ndarray

    def only(self, kept: np.ndarray) -> _Log:
        """The impressions where ``kept (n,)`` is True."""
        return _Log(
            self.ids[kept],
            self.user[kept],
            self.time[kept],
            self.shown.select(np.flatnonzero(kept)),
            Ragged(self.labels, self.shown.offsets).select(np.flatnonzero(kept)).values,
        )


def read_ebnerd(folder: Path, name: str, choices: Choices, max_bad: float) -> RawData:
    """Read a bundle (demo, small, large), with the test set where ``test/`` lies in it.

    Args:
        folder: of the bundle.
        name: of the data set.
        choices: how long histories are.
        max_bad: share of impressions that may be bad.

    Raises:
        DataError: a file or column is missing, or too many impressions cannot be read.
    """
    articles = folder / "articles.parquet"
    bad, odd = BadLines(max_bad), Counter[str]()
    items = _read_articles(articles, bad)
    try:
        item_rows = pd.Index([int(article) for article in items.ids])
    except ValueError as error:
        raise DataError(f"{articles}: an article_id is not a whole number ({error})") from None
    logs: dict[str, _Log] = {}
    histories: dict[str, tuple[np.ndarray, RaggedArray]] = {}
    sources = [articles]
    places = {"train": "train", "test": "validation", "test_unlabelled": "test"}
    for split, part in places.items():
        if split == "test_unlabelled" and not (folder / part).is_dir():
            continue
        behaviors = require_file(folder / part, "behaviors.parquet")
        history = require_file(folder / part, "history.parquet")
        logs[split] = _read_log(behaviors, item_rows, bad, odd, labelled=part != "test")
        histories[split] = _read_history(history, item_rows, odd)
        sources += [behaviors, history]
    bad.check()
    logs, histories["valid"] = _with_valid(logs), histories["train"]
    users, splits = _impressions(logs, histories, choices.longest or LONGEST, odd)
    frame = items.values.reset_index(drop=True)
    frame.insert(0, "item_id", np.array(items.ids, dtype=object))
    return RawData(
        name=name,
        layout="ebnerd",
        items=frame,
        text_fields=items.named("text", "list"),
        category_fields=items.named("category"),
        users=users,
        splits=splits,
        split_rule=RULE,
        sources=sources,
        oddities={**items.oddities, **bad.oddities(), **{k: n for k, n in odd.items() if n}},
        settings={"longest": choices.longest or LONGEST},
    )


def _read_articles(path: Path, bad: BadLines) -> Rows:
    source = open_source(path, "articles", encoding="utf-8", quotes=True)
    if "article_id" not in source.names or "title" not in source.names:
        raise DataError(f"{path}: columns {', '.join(source.names)}; expected article_id, title")
    kinds = {name: kind for name, kind in FIELDS.items() if name in source.names}
    others = [name for name in source.names if name not in (*kinds, "article_id")]
    return read_rows([source], "item", given="article_id", kinds=kinds, leave_out=others, bad=bad)


def _batches(path: Path, columns: Sequence[str], optional: str = "") -> Any:
    """Batches of a Parquet file with some columns.

    Raises:
        DataError: a column is missing or the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        names = set(file.schema_arrow.names)
        for column in columns:
            if column not in names:
                raise DataError(f"{path}: no column {column!r}; {nearest(column, names)}")
        asked = [*columns, *([optional] if optional in names else [])]
        with progress_bar(f"reading {path.parent.name}/{path.name}", file.metadata.num_rows) as bar:
            for batch in file.iter_batches(ROWS_A_BLOCK, columns=asked):
                yield batch
                bar.advance(len(batch))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: a damaged Parquet file ({error}); fetch it again") from None


def _lists(column: Any) -> RaggedArray:
    """A column of lists of numbers; null is an empty list."""
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    values = column.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    return Ragged(values, offsets_of(lengths))


def _read_log(
    path: Path, items: pd.Index, bad: BadLines, odd: Counter[str], *, labelled: bool
) -> _Log:
    """The impressions of a file that show something to somebody."""
    columns = ["impression_id", "user_id", "impression_time", _SHOWN]
    parts, begin = list[_Log](), 1
    for batch in _batches(path, [*columns, *([_CLICKED] if labelled else [])], BEYOND):
        shown = _lists(batch.column(_SHOWN))
        keys = (shown.rows << 33) | shown.values
        labels = np.full(len(keys), UNLABELLED, dtype=np.int8)
        if labelled:
            clicked = _lists(batch.column(_CLICKED))
            clicks = (clicked.rows << 33) | clicked.values
            labels = np.isin(keys, clicks).astype(np.int8)
            odd["clicks on articles that were not shown"] += int((~np.isin(clicks, keys)).sum())
        log = _Log(
            _numbers(batch.column("impression_id")),
            _numbers(batch.column("user_id")),
            _seconds(batch.column("impression_time")),
            Ragged(_rows(items, shown.values), shown.offsets),
            labels,
        )
        good = _good(log, path, begin, bad)
        if BEYOND in batch.schema.names:
            extra = batch.column(BEYOND).fill_null(False).to_numpy(zero_copy_only=False)
            odd["impressions for measures beyond accuracy, left out"] += int((good & extra).sum())
            good &= ~extra
        parts.append(log.only(good))
        begin += len(batch)
    if not sum(len(part.ids) for part in parts):
        bad.check()
        raise DataError(f"{path}: no impression can be read")
    return _known(_joined(parts), odd)


def _rows(items: pd.Index, articles: np.ndarray) -> np.ndarray:
    """``(n,)`` int32 item rows, -1 = in no file."""
    rows: np.ndarray = items.get_indexer(pd.Index(articles)).astype(np.int32)
    return rows


def _numbers(column: Any) -> np.ndarray:
    """``(n,)`` int64, -1 where there is nothing."""
    numbers: np.ndarray = column.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers


def _seconds(column: Any) -> np.ndarray:
    moments = column.to_numpy(zero_copy_only=False).astype("datetime64[s]")
    return np.where(np.isnat(moments), UNKNOWN_TIME, moments.astype(np.int64))


def _good(log: _Log, path: Path, begin: int, bad: BadLines) -> np.ndarray:
    """``(n,)`` bool; the others are counted with their rows."""
    bad.lines += len(log.ids)
    wrong = {
        "no user": log.user < 0,
        "no time": log.time == UNKNOWN_TIME,
        "no articles in view": log.shown.lengths == 0,
    }
    good = np.ones(len(log.ids), dtype=bool)
    for what, rows in wrong.items():
        for row in np.flatnonzero(rows & good).tolist():
            bad.add(BadLine(f"{path}: row {begin + row}", what, f"the impression has {what}"))
        good &= ~rows
    return good


def _joined(parts: Sequence[_Log]) -> _Log:
    return _Log(
        ids=np.concatenate([part.ids for part in parts]),
        user=np.concatenate([part.user for part in parts]),
        time=np.concatenate([part.time for part in parts]),
        shown=stack([part.shown for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
    )


def _known(log: _Log, odd: Counter[str]) -> _Log:
    """Without articles that are in no file, and without impressions that are left with none."""
    known = log.shown.values >= 0
    if known.all():
        return log
    odd["articles in view that articles.parquet does not have, left out"] += int((~known).sum())
    part = replace(log, shown=log.shown.keep(known), labels=log.labels[known])
    kept = part.shown.lengths > 0
    odd["impressions of unknown articles alone, left out"] += int((~kept).sum())
    return part.only(kept)


def _read_history(path: Path, items: pd.Index, odd: Counter[str]) -> tuple[np.ndarray, RaggedArray]:
    """``(u,)`` int64 users, and the item rows of each."""
    users, lists = [], []
    for batch in _batches(path, ["user_id", "article_id_fixed"]):
        read = _lists(batch.column("article_id_fixed"))
        rows = _rows(items, read.values)
        odd["clicks of histories on unknown articles, left out"] += int((rows < 0).sum())
        users.append(_numbers(batch.column("user_id")))
        lists.append(Ragged(rows, read.offsets).keep(rows >= 0))
    if not users:
        raise DataError(f"{path}: it has no rows")
    every = np.concatenate(users)
    again = pd.Series(every).duplicated().to_numpy()
    if again.any():
        row = int(again.argmax())
        raise DataError(f"{path}: row {row + 1}: user {every[row]} already exists")
    return every, stack(lists)


def _with_valid(logs: dict[str, _Log]) -> dict[str, _Log]:
    """Train without its last 24 hours, and these."""
    train = logs["train"]
    late = train.time > train.time.max() - A_DAY
    if late.all():
        raise DataError("train: all impressions are of one day, so that none is left beside valid")
    return {"train": train.only(~late), "valid": train.only(late)} | {
        split: log for split, log in logs.items() if split != "train"
    }


def _impressions(
    logs: dict[str, _Log],
    histories: dict[str, tuple[np.ndarray, RaggedArray]],
    longest: int,
    odd: Counter[str],
) -> tuple[list[str], dict[str, Impressions]]:
    """Users and impressions; those of a user share one stored history a split."""
    codes, users = pd.factorize(np.concatenate([log.user for log in logs.values()]))
    found, begin = {}, 0
    for split, log in logs.items():
        known, read = histories[split]
        place = pd.Index(known).get_indexer(log.user)
        odd["impressions of users without a history"] += int((place < 0).sum())
        ends = np.where(place < 0, 0, read.offsets[1:][place])
        lengths = np.where(place < 0, 0, np.minimum(read.lengths[place], longest))
        found[split] = Impressions(
            impression_id=log.ids.astype(str).astype(object),
            user=codes[begin : begin + len(log.ids)].astype(np.int32),
            time=log.time,
            history_values=read.values,
            history_offsets=offsets_of(lengths),
            history_starts=ends - lengths,
            candidate_values=log.shown.values,
            candidate_offsets=log.shown.offsets,
            labels=log.labels,
            negatives="shown",
        )
        begin += len(log.ids)
    return [str(user) for user in users.tolist()], found
