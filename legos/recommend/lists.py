"""Lists of readers: by the model, or the most popular items for readers without any history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from legos.data.ragged import from_rows
from legos.evaluation.rank import NO_ITEM, Best, best_items
from legos.recommend.catalogue import Catalogue
from legos.recommend.readers import AReader, Readership, as_readers

_POPULAR = "the most popular items; a score is the number of users who have had the item"


class NoHistory(UserWarning):
    """Lists are the most popular items, because their readers have no history."""


class Listed(NamedTuple):
    """A list of one reader as plain values.

    Attributes:
        ids: of the items, the best first.
        scores: of each.
        notice: why the list is not the model's; None: it is.
    """

    ids: list[str]
    scores: list[float]
    notice: str | None = None


@dataclass(frozen=True)
class Lists:
    """The best items of R readers.

    Attributes:
        catalogue: the items.
        best: their numbers and scores.
        notices: R of them, why a list is not the model's; None: it is.
    """

    catalogue: Catalogue
    best: Best
    notices: list[str | None]

    def plain(self) -> list[Listed]:
        """As plain values: a frame costs as much as finding the list."""
        items, scores, _ = self.best
        lengths = (items != NO_ITEM).sum(1).tolist()
        rows = zip(
            self.catalogue.ids[items.numpy()], scores.tolist(), lengths, self.notices, strict=True
        )
        return [
            Listed(ids[:length].tolist(), values[:length], notice)
            for ids, values, length, notice in rows
        ]

    def frames(self) -> list[pd.DataFrame]:
        """As frames of item_id, score, title and, after a search, proven.

        ``attrs["notice"]`` of a frame has its notice.
        """
        rows = zip(self.best.items, self.best.scores, strict=True)
        frames = [self.catalogue.frame(*row) for row in rows]
        if self.best.proven is not None:
            for frame, proven in zip(frames, self.best.proven.tolist(), strict=True):
                frame["proven"] = np.arange(len(frame)) < proven
        for frame, notice in zip(frames, self.notices, strict=True):
            if notice is not None:
                frame.attrs["notice"] = notice
        return frames


def find_lists(
    catalogue: Catalogue,
    readership: Readership,
    readers: Sequence[AReader],
    k: int,
    *,
    exclude_seen: bool,
) -> Lists:
    """The best items of readers; of those without a history the most popular ones.

    Args:
        catalogue: the items and their model.
        readership: the users of the tables.
        readers: who asks.
        k: items of a list.
        exclude_seen: leave out what readers have had.
    """
    asked = [readership.ask(reader, catalogue) for reader in readers]
    known = torch.tensor([not each.without_history for each in asked], dtype=torch.bool)
    seen = [each.seen if exclude_seen else each.seen[:0] for each in asked]
    excluded = from_rows(seen, "int64").tensors()
    notices = [
        notice_of(readership.name(each.user)) if each.without_history else None for each in asked
    ]
    if not asked:
        best = Best(torch.empty(0, k, dtype=torch.int64), torch.empty(0, k))
    elif known.all():
        best = catalogue.model.top(as_readers(asked), k, excluded)
    else:
        best = _most_popular(catalogue, readership.popularity, k, len(asked))
        if known.any():
            rows = known.nonzero()[:, 0]
            some = as_readers(asked).part(rows)
            best = _replaced(best, rows, catalogue.model.top(some, k, excluded.select(rows)))
    return Lists(catalogue, best, notices)


def notice_of(user: str | None) -> str:
    """Say that a reader, None for somebody new, gets the most popular items."""
    who = "a new user" if user is None else f"user {user!r}"
    return f"{who} has no history: the list contains {_POPULAR}"


def notice_of_many(popular: int, readers: int) -> str:
    """Say that some of many readers get the most popular items."""
    have = "has" if popular == 1 else "have"
    return f"{popular:,} of {readers:,} readers {have} no history: their lists contain {_POPULAR}"


def _most_popular(catalogue: Catalogue, popularity: Tensor, k: int, count: int) -> Best:
    """The same list ``count`` times; of equally popular items the tables' first comes first."""
    offered = catalogue.model.offered
    counts = F.pad(popularity.float(), (0, len(offered) - len(popularity)))  # 0 for added items
    best = best_items(counts.masked_fill(~offered, -torch.inf)[None], k)
    return Best(best.items.repeat(count, 1), best.scores.repeat(count, 1))


def _replaced(lists: Best, rows: Tensor, others: Best) -> Best:
    """Lists with those of some rows ``(n,)`` int64 replaced by n others, which may be shorter."""
    width = max(lists.items.shape[1], others.items.shape[1])
    items = F.pad(lists.items, (0, width - lists.items.shape[1]), value=NO_ITEM)
    scores = F.pad(lists.scores, (0, width - lists.scores.shape[1]), value=-torch.inf)
    short = width - others.items.shape[1]
    items[rows] = F.pad(others.items, (0, short), value=NO_ITEM)
    scores[rows] = F.pad(others.scores, (0, short), value=-torch.inf)
    if others.proven is None:
        return Best(items, scores)
    proven = torch.full((len(items),), width)  # counts of users are exact
    proven[rows] = others.proven
    return Best(items, scores, proven)
