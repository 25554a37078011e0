"""What a training split has seen of items and users."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from legos.data.interactions import Interactions


@dataclass(frozen=True)
class Known:
    """What the training split has seen; the rest is cold.

    Attributes:
        popularity: ``(items,)`` int64 users that clicked the item in an impression of the training
            split, or had read it before.
        shown: ``(items,)`` bool: it is a candidate or in a history of the training split.
    """

    popularity: Tensor
    users: Tensor  # ``(users,)`` bool: has an impression in the training split
    shown: Tensor

    @property
    def items(self) -> Tensor:
        """``(items,)`` bool; items that were only shown and never clicked are unseen."""
        return self.popularity > 0


def seen_in_training(train: Interactions, *, num_items: int, num_users: int) -> Known:
    """Count the popularity of every item in the training split."""
    clicked = train.labels == 1
    states = train.history_rows.unique()  # a history that many impressions share counts once
    history = train.histories.select(states)
    popularity = torch.cat(
        [train.users[train.candidates.rows[clicked]], train.history_users[states][history.rows]]
    )
    items = torch.cat([train.candidates.values[clicked], history.values])
    pairs = torch.unique(items * num_users + popularity)
    users = torch.zeros(num_users, dtype=torch.bool, device=train.users.device)
    users[train.users] = True
    shown = torch.zeros(num_items, dtype=torch.bool, device=train.users.device)
    shown[train.candidates.values] = True
    shown[history.values] = True
    return Known(torch.bincount(pairs // max(1, num_users), minlength=num_items), users, shown)
