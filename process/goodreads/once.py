"""The Goodreads benchmark in MIND's layout: titles and descriptions, five splits, no times."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from process.goodreads.leave_last_out import NEGATIVES, SPLIT_RULE
from process.mind import read_mind
from process.raw import RawData
from process.tsv import require_file

FURTHER_SPLITS = ("valid_uniform", "test_uniform")


def read_once(folder: Path, *, name: str) -> RawData:
    """Read ``news.tsv`` and ``train``, ``valid``, ``test`` and, where there are such folders,
    ``valid_uniform`` and ``test_uniform``.

    MIND's category columns say ``book`` in every row and are left out; its abstract is the book's
    description.

    Raises:
        DataError: names the file and line, or the folder, and what was expected.
    """
    raw = read_mind(
        folder / "train",
        folder / "test",
        valid=folder / "valid",
        further={split: folder / split for split in FURTHER_SPLITS if (folder / split).is_dir()},
        news=[require_file(folder, "news.tsv")],
        name=name,
        layout="goodreads-once",
    )
    items = raw.items.rename(columns={"abstract": "description"})
    return replace(
        raw,
        items=items[["item_id", "title", "description"]],
        text_fields=("title", "description"),
        category_fields=(),
        splits={
            name: replace(rows, negatives=NEGATIVES[name]) for name, rows in raw.splits.items()
        },
        split_rule=f"{SPLIT_RULE}; negatives as given",
    )
