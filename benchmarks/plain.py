"""The shortest loop that trains an assembled model: no accelerator, no checks, no bookkeeping.

Histories and candidates lie ready as matrices; a step gathers the distinct items, calls the model
and takes an Adam step. What our loop costs on top of it is the price of being general.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from legos.data.batch import Batch
from legos.data.interactions import Interactions
from legos.data.items import ItemStore
from legos.recommender import Recommender


class PlainLoop:
    """One step a call.

    Args:
        model: copied, weights and all.
        store: the items.
        data: impressions of one click and as many others each.
        lr: of Adam.
        profiles: the users' fields.
    """

    def __init__(
        self,
        model: Recommender,
        store: ItemStore,
        data: Interactions,
        lr: float,
        profiles: ItemStore,
    ) -> None:
        self.model, self.store, self.profiles = copy.deepcopy(model), store, profiles
        count = len(data)
        self.users = data.users
        self.shown = data.candidates.values.view(count, -1)
        self.history, self.mask = data.histories.padded_tail(data.history_rows, data.history_length)
        self.optimizer = torch.optim.Adam(
            [p for p in self.model.parameters() if p.requires_grad], lr, fused=True
        )
        self.target = torch.zeros(1, dtype=torch.int64)

    def loss(self, rows: Tensor) -> Tensor:
        """The mean loss of the named impressions."""
        shown, mask = self.shown[rows], self.mask[rows]
        width = max(1, int(mask.sum(1).max()))
        history, mask = self.history[rows, :width], mask[:, :width]
        read = history[mask]
        items, place = torch.cat([read, shown.flatten()]).unique(return_inverse=True)
        history = torch.zeros_like(history)
        history[mask] = place[: read.numel()]
        candidates = place[read.numel() :].view_as(shown)
        nothing = self.target
        real = torch.ones_like(candidates, dtype=torch.bool)
        batch = Batch(items, history, mask, candidates, real, nothing, self.users[rows], rows)
        scores, penalty = self.model(batch, self.store.batch(items), self.profiles)
        loss = F.cross_entropy(scores, self.target.expand(len(rows)))
        return loss if penalty is None else loss + penalty.mean()

    def step(self, rows: Tensor) -> float:
        """Train on the named impressions; returns the loss."""
        loss = self.loss(rows)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())
