"""A learned vector for every item: collaborative filtering without content.

Items that training never saw share one learned "unknown" vector. ID dropout sometimes replaces the
vector of a training item by it; otherwise the unknown vector would never be trained (as DropoutNet
does for cold start: Volkovs, Yu and Poutanen, NeurIPS 2017).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from legos.blocks.embedding import IDVectors
from legos.data.items import ItemBatch
from legos.registry import BrickConfig, item_encoders


class IDConfig(BrickConfig):
    name: Literal["id"] = "id"
    id_dropout: float = Field(0.1, ge=0, lt=1)
    """How often a training item is shown as unknown, so that cold items get a trained vector."""
    initial_std: float = Field(default=0.1, gt=0)
    """Standard deviation of the initial vectors. 0.02, as in RecBole and BERT, learns faster under
    `full_softmax`: Adam's steps are of one size, and large random vectors take more to forget."""


@item_encoders.register(IDConfig)
class ID(IDVectors):
    """Look up item vectors; items that training never saw share one."""

    def __init__(self, settings: IDConfig, *, known_items: Tensor, hidden_size: int) -> None:
        super().__init__(
            known=known_items,
            size=hidden_size,
            id_dropout=settings.id_dropout,
            initial_std=settings.initial_std,
        )

    def forward(self, items: ItemBatch) -> Tensor:
        """N items -> ``(N, D)``; ids beyond the trained catalogue are unknown."""
        return self.look_up(items.ids)
