"""A learned vector for every item: no content, the classic collaborative representation.

Items that training never saw share one learned "unknown" vector. ID dropout replaces the vector
of a training item by it now and then, so that the unknown vector is trained at all (as DropoutNet
does for cold start: Volkovs, Yu and Poutanen, NeurIPS 2017).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.packed import gather
from legos.data.items import ItemBatch
from legos.registry import BrickConfig, item_encoders


class IDConfig(BrickConfig):
    """Settings of the ID item encoder."""

    name: Literal["id"] = "id"
    id_dropout: float = Field(0.1, ge=0, lt=1)
    """How often a training item is shown as unknown, so that cold items get a trained vector."""


@item_encoders.register(IDConfig)
class ID(nn.Module):
    """Look up item vectors; what training never saw is one shared vector.

    Args:
        known_items: ``(items,)`` bool, True = occurs in the training split.
        hidden_size: D.
        id_dropout: rate at which known items are shown as unknown while training.
    """

    def __init__(self, *, known_items: Tensor, hidden_size: int, id_dropout: float) -> None:
        super().__init__()
        self.known_items: Tensor
        self.register_buffer("known_items", known_items, persistent=False)
        self.id_dropout = id_dropout
        self.vectors = nn.Parameter(torch.randn(known_items.numel(), hidden_size) * 0.1)
        self.unknown = nn.Parameter(torch.zeros(hidden_size))

    def forward(self, items: ItemBatch) -> Tensor:
        """N items -> ``(N, D)``; ids beyond the trained catalogue are unknown."""
        inside = items.ids < self.known_items.numel()
        ids = items.ids.where(inside, 0)
        known = self.known_items[ids] & inside
        if self.training and self.id_dropout > 0:
            known = known & (torch.rand(known.shape, device=known.device) >= self.id_dropout)
        return torch.where(known[:, None], gather(self.vectors, ids), self.unknown)
