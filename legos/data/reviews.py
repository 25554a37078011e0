"""Table ``reviews``: what users wrote about items, of one split and never of another.

A held-out pair's review would give the pair away (CLLM4Rec trains on reviews of training pairs
only), so reviews are asked for by split and training ones are checked against the held-out clicks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from legos.data.tables import Tables
from legos.errors import DataError, nearest

TABLE = "reviews"
TRAIN = "train"


@dataclass(frozen=True)
class Review:
    """One review; ``texts`` by field, "" where the user left one empty."""

    user: int
    item: int
    rating: float
    time: int
    texts: Mapping[str, str]


@dataclass(frozen=True)
class Reviews:
    """The reviews of one split, ``R`` of them, by user and then time.

    Attributes:
        rows: ``(R,)`` int64 rows of table ``reviews``, for its token columns.
        users, items: ``(R,)`` int64.
        ratings: ``(R,)`` float32 stars, NaN = unknown.
        times: ``(R,)`` int64 Unix seconds, -1 = unknown.
        texts: ``R`` texts by field: ``review``, ``headline``, ``explanation``, as far as there are.
    """

    rows: Tensor
    users: Tensor
    items: Tensor
    ratings: Tensor
    times: Tensor
    texts: Mapping[str, list[str]]

    def __len__(self) -> int:
        return self.rows.numel()

    def __iter__(self) -> Iterator[Review]:
        columns = (self.users, self.items, self.ratings, self.times)
        numbers = zip(*(column.tolist() for column in columns), strict=True)
        for row, (user, item, rating, time) in enumerate(numbers):
            texts = {field: found[row] for field, found in self.texts.items()}
            yield Review(user, item, rating, time, texts)

    @classmethod
    def from_tables(cls, tables: Tables, split: str = TRAIN) -> Reviews:
        """Read the reviews of the pairs of one split.

        Args:
            tables: with a table ``reviews``.
            split: ``train``, ``valid`` or ``test``.

        Raises:
            DataError: no reviews, no such split, or the review of a training pair is that of a
                held-out click.
        """
        if TABLE not in tables.manifest["tables"]:
            raise DataError(
                f"{tables.folder}: no table {TABLE!r}; its source has neither ratings nor reviews"
            )
        names = tables.vocabulary(str(tables.column(TABLE, "split")["vocabulary"]))
        if split not in names:
            raise DataError(
                f"{tables.folder}: no reviews of split {split!r}; {nearest(split, names)}"
            )
        rows = (tables.scalar(TABLE, "split") == names.index(split)).nonzero()[:, 0]
        users = tables.scalar(TABLE, "user_id")[rows].long()
        items = tables.scalar(TABLE, "item_id")[rows].long()
        if split == TRAIN:
            _refuse_held_out(tables, users, items)
        fields = tables.manifest.get("table_fields", {}).get(TABLE, {})
        chosen = rows.tolist()
        texts = {}
        for field in fields:
            every = tables.texts(field, table=TABLE)
            texts[field] = [every[row] for row in chosen]
        ratings, times = tables.scalar(TABLE, "rating")[rows], tables.scalar(TABLE, "time")[rows]
        return cls(rows, users, items, ratings, times, texts)


def _refuse_held_out(tables: Tables, users: Tensor, items: Tensor) -> None:
    pairs = users * tables.num_items + items
    for split in tables.splits:
        if split == TRAIN:
            continue
        candidates = tables.lists(split, "candidates")
        clicked = tables.lists(split, "labels").values == 1
        owners = candidates.spread(tables.scalar(split, "user_id").long())[clicked]
        held_out = owners * tables.num_items + candidates.values[clicked].long()
        leaked = torch.isin(pairs, held_out)
        if bool(leaked.any()):
            row = int(leaked.nonzero()[0, 0])
            raise DataError(
                f"{tables.folder}: the review of user {int(users[row])} and item {int(items[row])} "
                f"is said to be {TRAIN!r}, but the pair is a click of {split!r}; make the tables "
                "again"
            )
