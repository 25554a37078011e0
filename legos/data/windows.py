"""Sequences of items that grow click by click, each read once for all the training rows in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from legos.data.items import Interactions
from legos.data.ragged import Ragged, from_owners
from legos.errors import DataError

_COMPARED = 2**16  # rows whose histories are compared at once


@dataclass(frozen=True)
class Windows:
    """Pieces of users' sequences.

    A sequence of more items than a history keeps, L, is cut into windows of L items, each half of L
    after the one before; a row belongs to the first window that has its whole history or else L/2
    of it. So a row reads all that it would read alone, or the newest L/2 to L items.

    Attributes:
        items: V rows of item ids (int64), oldest first.
        rows: V rows of the training rows that read them, those that read less first.
        lengths: ``(R,)`` int64 items of its window that each training row reads, the first ones.
    """

    items: Ragged[Tensor]
    rows: Ragged[Tensor]
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.items)

    @classmethod
    def of(cls, interactions: Interactions, impressions: Tensor) -> Windows:
        """The windows of training rows.

        Args:
            interactions: the training split.
            impressions: ``(R,)`` int64 impression of each row.

        Raises:
            DataError: a user's history does not begin as an earlier one of theirs.
        """
        states, most = interactions.history_rows[impressions], interactions.history_length
        owners = interactions.users[impressions]
        clicks = interactions.history_clicks[states]  # (R,) before the cut
        half = max(1, most // 2)
        window = torch.div((clicks - most).clamp(min=0) + half - 1, half, rounding_mode="floor")
        lengths = clicks - window * half  # (R,)
        order = clicks.argsort(stable=True)
        order = order[window[order].argsort(stable=True)]
        order = order[owners[order].argsort(stable=True)]  # by owner, window, clicks
        keys = torch.stack([owners, window])[:, order]
        _, number = torch.unique_consecutive(keys, dim=1, return_inverse=True)
        count = int(number[-1]) + 1 if len(number) else 0
        rows = from_owners(order, number, count)
        longest = rows.values[rows.offsets[1:] - 1]
        items = interactions.histories.select(states[longest]).tail(lengths[longest])
        windows = cls(items, rows, lengths)
        for page in torch.arange(len(order), device=order.device).split(_COMPARED):
            alone = interactions.histories.select(states[order[page]]).tail(lengths[order[page]])
            within = items.select(number[page]).head(lengths[order[page]])
            if alone.offsets[-1] != within.offsets[-1] or bool(
                (alone.values != within.values).any()
            ):
                _refuse(interactions, impressions[order[page]], alone, within)
        return windows


def _refuse(
    interactions: Interactions, impressions: Tensor, alone: Ragged[Tensor], within: Ragged[Tensor]
) -> None:
    """Raise DataError for the first row whose history is another one."""
    for row, impression in enumerate(impressions.tolist()):
        if alone.row(row).tolist() != within.row(row).tolist():
            raise DataError(
                f"split {interactions.split!r}: history {impression} of user number "
                f"{int(interactions.users[impression])} is not the beginning of a later one; "
                "exp.train.sequences reads a user's clicks once for all rows, which needs "
                "histories that only grow; set it to false"
            )
