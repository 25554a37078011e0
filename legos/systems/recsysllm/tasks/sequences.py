"""What every user did, in order: the last event is for test, the one before for valid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from legos.data.ragged import Ragged, from_lengths, from_owners
from legos.data.tables import Tables
from legos.errors import DataError
from legos.systems.recsysllm.task_settings import SplitName

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
