"""What every user did, in order: the last event is for test, the one before for valid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from legos.data.ragged import Ragged, from_lengths, from_owners
from legos.data.reviews import Reviews
from legos.data.sampling import keyed_bits
from legos.data.tables import Tables
from legos.errors import DataError
from legos.systems.recsysllm.explanations import Explanation
from legos.systems.recsysllm.task_settings import ReviewSplit, SplitName

HELD_OUT = 2


@dataclass(frozen=True)
class Sequences:
    """Events of users with at least three of them.

    Attributes:
        users: ``(S,)`` int64 user numbers, ascending.
        items: S rows of items, the oldest first, the held-out two at the end.
        times: S rows of Unix seconds, -1 where unknown.
        num_items: of the catalogue.
    """

    users: Tensor
    items: Ragged
    times: Ragged
    num_items: int

    def __len__(self) -> int:
        return self.users.numel()

    @classmethod
    def from_tables(cls, tables: Tables) -> Sequences:
        """Read them off the valid and test splits of a leave-last-out table.

        Raises:
            DataError: the tables are split in another way.
        """
        users, histories, targets = _clicks(tables, "test")
        valid_users, valid_histories, valid_targets = _clicks(tables, "valid")
        items = [np.append(h, t) for h, t in zip(histories, targets, strict=True)]
        valid = [np.append(h, t) for h, t in zip(valid_histories, valid_targets, strict=True)]
        same = users.tolist() == valid_users.tolist() and all(
            np.array_equal(whole[:-1], part) for whole, part in zip(items, valid, strict=True)
        )
        if not same:
            raise DataError(
                f"{tables.folder}: split {tables.manifest.get('split_rule')!r}; sequential tasks "
                "need one test event a user, the valid event right before it: make the tables with "
                "--split leave-last-out"
            )
        lengths = torch.tensor([len(row) for row in items], dtype=torch.int64)
        values = torch.from_numpy(np.concatenate(items).astype(np.int64)) if items else lengths
        rows = from_lengths(values, lengths)
        times = from_lengths(_times(tables, users, rows), lengths)
        return cls(users, rows, times, tables.num_items)

    def seen(self, *, held_out: bool = True) -> Ragged:
        """S rows of the items of each user, ascending, every one once.

        Args:
            held_out: with those of valid and test.
        """
        keys = self.items.rows * self.num_items + self.items.values
        if not held_out:
            keys = keys[self.items.to_end > HELD_OUT]
        keys = torch.unique(keys)
        return from_owners(keys % self.num_items, keys // self.num_items, len(self))

    def event(self, row: int, place: int) -> int:
        """The item at a place of a row; negative places count from the end."""
        return int(self.items.row(row)[place])

    def targets(self, split: SplitName) -> Tensor:
        """``(S,)`` int64 held-out items.

        Raises:
            DataError: ``train`` has several.
        """
        if split == "train":
            raise DataError("split 'train' has several targets a user; expected valid or test")
        return self.items.values[self.items.offsets[1:] - (1 if split == "test" else 2)]

    def held_out_pairs(self) -> Tensor:
        """``(2 S,)`` int64: ``user * num_items + item`` of valid and test events."""
        both = torch.cat([self.targets("valid"), self.targets("test")])
        return self.users.repeat(2) * self.num_items + both


def _clicks(tables: Tables, split: str) -> tuple[Tensor, list[np.ndarray], np.ndarray]:
    """Users ``(n,)`` of a split, ascending, their histories and the item of each."""
    candidates, labels = tables.lists(split, "candidates"), tables.lists(split, "labels")
    clicked = labels.values == 1
    users = tables.scalar(split, "user_id").long()
    owners = candidates.rows[clicked]
    if owners.tolist() != list(range(len(users))) or users.unique().numel() != len(users):
        raise DataError(
            f"{tables.folder}: {split} does not have one event a user; sequential tasks need "
            "tables made with --split leave-last-out"
        )
    targets = candidates.values[clicked].long()
    order = users.argsort()
    histories = tables.lists("histories", "items").select(tables.scalar(split, "history").long())
    rows = [histories.row(row).numpy() for row in order.tolist()]
    return users[order], rows, targets[order].numpy()


def _times(tables: Tables, users: Tensor, items: Ragged) -> Tensor:
    """``(P,)`` int64 times of the events out of the reviews, -1 where there are none."""
    unknown = torch.full_like(items.values, -1)
    if not tables.has("reviews", "time"):
        return unknown
    pairs = tables.scalar("reviews", "user_id").long() * tables.num_items
    pairs = pairs + tables.scalar("reviews", "item_id").long()
    times = tables.scalar("reviews", "time").long()
    order = pairs.argsort()
    wanted = users[items.rows] * tables.num_items + items.values
    at = torch.searchsorted(pairs[order], wanted).clamp(max=max(len(pairs) - 1, 0))
    found = order[at]
    return torch.where(pairs[found] == wanted, times[found], unknown)


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
