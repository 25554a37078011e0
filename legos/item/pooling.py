"""Mean or maximum of the token vectors of each field, then over the fields.

The simplest content encoder (Legommenders' ``Pooling``): a reference for what attention adds.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from legos.blocks.embedding import FieldEmbeddings
from legos.blocks.packed import segment_max, segment_mean
from legos.data.items import ItemBatch
from legos.registry import BrickConfig, item_encoders


class PoolingConfig(BrickConfig):
    name: Literal["pooling"] = "pooling"
    mode: Literal["mean", "max"] = "mean"
    """How tokens, then fields, are pooled."""
    flatten: bool = False
    """Concatenate the fields and project them to hidden_size instead of pooling them."""


@item_encoders.register(PoolingConfig)
class Pooling(nn.Module):
    """Pool tokens into fields and fields into an item."""

    def __init__(
        self, settings: PoolingConfig, *, embeddings: FieldEmbeddings, hidden_size: int
    ) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.mode = settings.mode
        width = hidden_size * len(embeddings.fields)
        self.project = nn.Linear(width, hidden_size) if settings.flatten else None

    def forward(self, items: ItemBatch) -> Tensor:
        """Content of N items -> ``(N, D)``."""
        pool = segment_mean if self.mode == "mean" else segment_max
        fields = []
        for name in self.embeddings.text_fields:
            tokens = self.embeddings.text(name, items)
            fields.append(pool(tokens.vectors, tokens.rows, tokens.offsets))
        fields += [
            self.embeddings.category(name, items) for name in self.embeddings.category_fields
        ]
        stacked = torch.stack(fields, 1)  # (N, F, D)
        if self.project is not None:
            projected: Tensor = self.project(stacked.flatten(1))
            return projected
        return stacked.mean(1) if self.mode == "mean" else stacked.amax(1)
