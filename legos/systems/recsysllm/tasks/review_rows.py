"""Reviews with their splits: those of the sequences, or P5's at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from legos.data.reviews import Reviews
from legos.data.sampling import keyed_bits
from legos.data.tables import Tables
from legos.errors import DataError
from legos.systems.recsysllm.explanations import Explanation
from legos.systems.recsysllm.task_settings import ReviewSplit, SplitName

SPLITS: tuple[SplitName, ...] = ("train", "valid", "test")
_SPLIT_KEY = 60  # of random numbers
_TRAIN_SHARE = 0.8  # P5


@dataclass(frozen=True)
class ReviewRows:
    """R reviews of all splits.

    Attributes:
        users, items: ``(R,)`` int64.
        ratings: ``(R,)`` float32 stars, NaN = unknown.
        splits: ``(R,)`` int64 place in ``SPLITS``.
        headlines: R texts, "" where there is none.
        bodies: R texts, the same.
        explanations: R sentences with feature words, None where nothing was found.
    """

    users: Tensor
    items: Tensor
    ratings: Tensor
    splits: Tensor
    headlines: Sequence[str]
    bodies: Sequence[str]
    explanations: Sequence[Explanation | None]

    def __len__(self) -> int:
        return self.users.numel()

    @classmethod
    def from_tables(cls, tables: Tables, *, split: ReviewSplit, seed: int) -> ReviewRows:
        """All reviews of tables, without explanations.

        Raises:
            DataError: there are no reviews, or a training one is of a held-out pair.
        """
        parts = [Reviews.from_tables(tables, name) for name in SPLITS]
        texts = {
            name: [text for part in parts for text in part.texts.get(name, [""] * len(part))]
            for name in ("headline", "review")
        }
        rows = cls(
            users=torch.cat([part.users for part in parts]),
            items=torch.cat([part.items for part in parts]),
            ratings=torch.cat([part.ratings for part in parts]),
            splits=torch.cat([torch.full((len(part),), code) for code, part in enumerate(parts)]),
            headlines=texts["headline"],
            bodies=texts["review"],
            explanations=[None] * sum(len(part) for part in parts),
        )
        if split == "p5":
            rows = replace(rows, splits=random_split(rows.users, rows.items, seed=seed))
        return rows

    def with_explanations(self, explanations: Sequence[Explanation | None]) -> ReviewRows:
        """The same with mined or imported explanations.

        Raises:
            DataError: not one a review.
        """
        if len(explanations) != len(self):
            raise DataError(f"{len(explanations)} explanations for {len(self)} reviews")
        return replace(self, explanations=list(explanations))

    def of(self, split: SplitName) -> Tensor:
        """``(n,)`` int64 rows of a split."""
        return (self.splits == SPLITS.index(split)).nonzero()[:, 0]

    def train_mean(self) -> float:
        """Mean of the known training ratings; 3 where there is none."""
        known = self.ratings[self.of("train")]
        known = known[~known.isnan()]
        return float(known.double().mean()) if len(known) else 3.0


def random_split(users: Tensor, items: Tensor, *, seed: int) -> Tensor:
    """80/10/10 at random, every user and item at least once in train.

    Args:
        users, items: ``(R,)`` int64 of each review.
        seed: of the draw.

    Returns:
        ``(R,)`` int64 place in ``SPLITS``.
    """
    count = users.numel()
    order = keyed_bits(torch.arange(count), 1, _SPLIT_KEY, seed)[:, 0].argsort()
    needed = torch.zeros(count, dtype=torch.bool)
    for column in (users[order], items[order]):
        first = torch.full((int(column.max()) + 1 if count else 0,), count)
        first.scatter_reduce_(0, column, torch.arange(count), "amin")
        needed[first[first < count]] = True
    arranged = torch.cat([order[needed], order[~needed]])  # those that train needs come first
    train = max(round(_TRAIN_SHARE * count), int(needed.sum()))
    valid = (count - train + 1) // 2
    splits = torch.full((count,), SPLITS.index("test"))
    splits[arranged[: train + valid]] = SPLITS.index("valid")
    splits[arranged[:train]] = SPLITS.index("train")
    return splits
