"""The Parquet files that RecBench makes of fifteen data sets (Liu et al., 2025, arXiv 2503.05493).

::

    items.parquet                   an id and texts
    users.parquet                   an id and a list of items, oldest first
    finetune.parquet test.parquet   user, item, click: 0 or 1
    valid_user_set_0.1.txt          users of finetune that are valid, one a line; optional

Read for this: ``process/base_processor.py`` of Jyonn/RecBench-MD (009bf7b), which writes them, and
``processor/recbench_processor.py`` of Jyonn/Legommenders (03f4e63), which reads them. The columns
are called otherwise in every set (uid, customer_id, userId; history, his): the history is the list
of users.parquet, ids are the columns that two files share. interactions.parquet, from which
finetune and test were drawn, is not read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from legos.data.ragged import Ragged, RaggedArray, from_lengths, offsets_of
from legos.errors import DataError
from process.bad_lines import BadLine, BadLines
from process.moments import UNKNOWN_TIME
from process.published.choices import Choices
from process.published.layout import ShownLayout
from process.raw import Impressions, RawData
from process.table.rows import Rows, read_rows
from process.table.sources import Source, open_source
from process.table.values import each, id_of
from process.ties import by_hash
from process.tsv import require_file

HISTORIES, LABELS = ("history", "his"), ("click", "label")
TENTH = 10  # of the users of finetune are valid where no file names them
LONGEST = 100  # items that a stored history keeps, the newest (RecBench's own limit)


def find(folder: Path, choices: Choices) -> ShownLayout | None:
    """The layout of a folder; None: it has no files of RecBench."""
    names = ("items.parquet", "users.parquet", "finetune.parquet")
    if not all((folder / name).is_file() for name in names):
        return None
    return ShownLayout(
        "recbench", lambda name, max_bad: read_recbench(folder, name, choices, max_bad)
    )


@dataclass(frozen=True)
class _Columns:
    """What the files call user, item, history and label."""

    user: str
    item: str
    history: str
    label: str


def read_recbench(folder: Path, name: str, choices: Choices, max_bad: float) -> RawData:
    """Read a prepared set: one impression a user and split, with the items the files give.

    Args:
        folder: of the files.
        name: of the data set.
        choices: how long histories are.
        max_bad: share of rows that may be bad.

    Raises:
        DataError: a file or column is missing, or too many rows cannot be read.
    """
    paths = {each_: require_file(folder, f"{each_}.parquet") for each_ in
             ("items", "users", "finetune", "test")}  # fmt: skip
    files = {
        what: open_source(path, what, encoding="utf-8", quotes=True) for what, path in paths.items()
    }
    called = _columns(files["items"], files["users"], files["finetune"])
    bad, odd = BadLines(max_bad), Counter[str]()
    items = read_rows([files["items"]], "item", given=called.item, kinds={}, bad=bad)
    known = pd.Index(items.ids, dtype=object)
    users, histories = _read_users(files["users"], called, known, bad, odd)
    clicks = {part: _read_clicks(files[part], called, known, bad, odd)
              for part in ("finetune", "test")}  # fmt: skip
    bad.check()
    named = sorted(folder.glob("valid_user_set_*.txt"))
    splits, rule = _parted(clicks, named)
    every = pd.unique(np.concatenate([part["user"].to_numpy() for part in splits.values()]))
    user_index = pd.Index(every, dtype=object)
    longest = choices.longest or LONGEST
    place = pd.Index(users, dtype=object).get_indexer(user_index)
    odd["users without a row in users.parquet"] += int((place < 0).sum())
    return RawData(
        name=name,
        layout="recbench",
        items=_frame(items),
        text_fields=items.named("text", "list"),
        category_fields=items.named("category"),
        number_fields=items.named("number"),
        source_columns={"user_id": called.user, **items.source_columns},
        users=every.tolist(),
        splits={
            split: _impressions(part, user_index, place, histories, longest)
            for split, part in splits.items()
        },
        split_rule=rule,
        sources=[*paths.values(), *named],
        oddities={**items.oddities, **bad.oddities(), **{k: n for k, n in odd.items() if n}},
        settings={"longest": longest},
    )


def _frame(items: Rows) -> pd.DataFrame:
    frame = items.values.reset_index(drop=True)
    frame.insert(0, "item_id", np.array(items.ids, dtype=object))
    return frame


def _columns(items: Source, users: Source, clicks: Source) -> _Columns:
    """Columns by name and by what files share.

    Raises:
        DataError: a role has no column, or several.
    """

    def one(names: Sequence[str], source: Source, what: str) -> str:
        if len(names) != 1:
            found = f"found {', '.join(names)}" if names else "found none"
            raise DataError(
                f"{source.label}: which column is {what}? {found} among {', '.join(source.names)}"
            )
        return names[0]

    history = one([n for n in users.names if n in HISTORIES], users, "the history")
    label = one([n for n in clicks.names if n in LABELS], clicks, "the click")
    user = one([n for n in clicks.names if n in users.names], clicks, "the user, as in users")
    item = one([n for n in clicks.names if n in items.names], clicks, "the item, as in items")
    return _Columns(user, item, history, label)


def _read_users(
    source: Source, called: _Columns, known: pd.Index, bad: BadLines, odd: Counter[str]
) -> tuple[np.ndarray, RaggedArray]:
    """Ids, and the item rows of every history; of several rows of a user the last counts."""
    ids, values, lengths = [], [], []
    for block in source.blocks([called.user, called.history], bad):
        lists = [() if items is None else items for items in block.columns[called.history]]
        ids.append(each(block.columns[called.user], id_of))
        lengths.append(np.fromiter(map(len, lists), np.int64, len(lists)))
        values.append(np.array([id_of(item) for items in lists for item in items], dtype=object))
    users = np.concatenate(ids)
    rows = known.get_indexer(pd.Index(np.concatenate(values))).astype(np.int32)
    odd["clicks of histories on unknown items, left out"] += int((rows < 0).sum())
    every: RaggedArray = Ragged(rows, offsets_of(np.concatenate(lengths)))
    histories = every.keep(rows >= 0)
    last = ~pd.Series(users).duplicated(keep="last").to_numpy()
    odd["users described again, the last row counts"] += int((~last).sum())
    return users[last], histories.select(np.flatnonzero(last))


def _read_clicks(
    source: Source, called: _Columns, known: pd.Index, bad: BadLines, odd: Counter[str]
) -> pd.DataFrame:
    """Rows of a user, an item row and a label."""
    parts = []
    for block in source.blocks([called.user, called.item, called.label], bad):
        users = each(block.columns[called.user], id_of)
        items = known.get_indexer(pd.Index(each(block.columns[called.item], id_of)))
        label = pd.to_numeric(pd.Series(block.columns[called.label]), errors="coerce").to_numpy()
        wrong = {f"no {called.user!r}": users == "", f"{called.label!r} is not 0 or 1": ~(
            (label == 0) | (label == 1))}  # fmt: skip
        good = np.ones(len(users), dtype=bool)
        for what, rows in wrong.items():
            for row in np.flatnonzero(rows & good).tolist():
                bad.add(BadLine(source.at(int(block.lines[row])), what, what))
            good &= ~rows
        odd["rows of unknown items, left out"] += int((good & (items < 0)).sum())
        good &= items >= 0
        parts.append(pd.DataFrame(
            {"user": users[good], "item": items[good], "label": label[good].astype(np.int8)}
        ))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def _parted(
    clicks: dict[str, pd.DataFrame], named: Sequence[Path]
) -> tuple[dict[str, pd.DataFrame], str]:
    """Splits, and the rule in words.

    Raises:
        DataError: a split has no rows.
    """
    finetune = clicks["finetune"]
    if named:
        valid = {line.strip() for line in named[0].read_text(encoding="utf-8").splitlines()}
        rule = f"test is test.parquet; users of finetune that {named[0].name} names are valid"
    else:
        users = pd.unique(finetune["user"]).tolist()
        valid = {users[row] for row in by_hash(users)[: max(1, len(users) // TENTH)]}
        rule = "test is test.parquet; a tenth of the users of finetune, by a hash, are valid"
    is_valid = finetune["user"].isin(valid).to_numpy()
    splits = {"train": finetune[~is_valid], "valid": finetune[is_valid], "test": clicks["test"]}
    for split, rows in splits.items():
        if rows.empty:
            raise DataError(f"{split} has no rows ({rule})")
    return splits, rule


def _impressions(
    rows: pd.DataFrame, users: pd.Index, place: np.ndarray, histories: RaggedArray, longest: int
) -> Impressions:
    """One impression a user, all its rows; ``place``: row of each user's history, -1 = none."""
    of_row = users.get_indexer(pd.Index(rows["user"]))
    order = np.lexsort((rows["item"].to_numpy(), of_row))
    owner, counts = np.unique(of_row, return_counts=True)
    at = place[owner]
    lengths = np.where(at < 0, 0, np.minimum(histories.lengths[at], longest))
    ends = np.where(at < 0, 0, histories.offsets[1:][at])
    shown = from_lengths(rows["item"].to_numpy(np.int32)[order], counts)
    return Impressions(
        impression_id=users[owner].to_numpy(dtype=object),
        user=owner.astype(np.int32),
        time=np.full(len(owner), UNKNOWN_TIME, dtype=np.int64),
        history_values=histories.values,
        history_offsets=offsets_of(lengths),
        history_starts=ends - lengths,
        candidate_values=shown.values,
        candidate_offsets=shown.offsets,
        labels=rows["label"].to_numpy()[order],
        negatives="given",
    )
