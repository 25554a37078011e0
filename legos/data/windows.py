"""Sequences of items that grow click by click, each read once for all the training rows in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from legos.data.interactions import Interactions
from legos.data.ragged import Ragged, from_owners

_COMPARED = 2**16  # rows whose histories are compared at once


@dataclass(frozen=True)
class Windows:
    """Pieces of users' sequences.

    A sequence of more items than a history keeps, L, is cut into windows of L items, each half of L
    after the one before; a row belongs to the first window that has its whole history or else L/2
    of it. So a row reads all that it would read alone, or the newest L/2 to L items. A row whose
    history does not begin as the next longer one of its user opens a window of its own.

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
        opens = torch.ones_like(order, dtype=torch.bool)
        later, earlier = order[1:], order[:-1]
        opens[1:] = (owners[later] != owners[earlier]) | (window[later] != window[earlier])
        for page in (~opens).nonzero().squeeze(1).split(_COMPARED):
            kept = lengths[order[page - 1]]
            before = interactions.histories.select(states[order[page - 1]]).tail(kept)
            after = interactions.histories.select(states[order[page]]).tail(lengths[order[page]])
            differs = before.values != after.head(kept).values
            opens[page] = before.sums(differs) > 0
        rows = from_owners(order, opens.cumsum(0) - 1, int(opens.sum()))
        longest = rows.values[rows.offsets[1:] - 1]
        items = interactions.histories.select(states[longest]).tail(lengths[longest])
        return cls(items, rows, lengths)
