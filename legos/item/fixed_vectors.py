"""Item vectors that come from elsewhere (a language model, images, another model), projected.

A frozen encoder's output through one linear layer or an MLP is the plain baseline of content-based
recommendation; no single paper is followed. Items without a vector share one learned vector.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.mlp import MLP
from legos.blocks.packed import gather
from legos.data.items import ItemBatch
from legos.registry import BrickConfig, item_encoders


class FixedVectorsConfig(BrickConfig):
    """Settings of the item encoder over given vectors (`embed.item_vectors`)."""

    name: Literal["fixed_vectors"] = "fixed_vectors"
    hidden_sizes: tuple[int, ...] = ()
    """Widths of ReLU layers before the linear one to hidden_size; none: a linear projection."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Rate on the given vectors and after every hidden layer."""
    normalise: bool = False
    """Scale every given vector to length 1 first."""
    tune: bool = False
    """Train the given vectors themselves, too; they then belong to the checkpoint."""


@item_encoders.register(FixedVectorsConfig)
class FixedVectors(nn.Module):
    """Look up an item's given vector and project it.

    Vectors that are not trained are a frozen parameter: left out of checkpoints, which remember
    their hash, and not sent around by every step of a training with many processes.

    Args:
        item_vectors: ``(items, E)`` float32; a row of NaN for an item without a vector.
        hidden_size: D.
        hidden_sizes: widths of hidden layers.
        dropout: rate on the given vectors and after every hidden layer.
        normalise: scale the given vectors to length 1.
        tune: train the given vectors.
    """

    def __init__(
        self,
        *,
        item_vectors: Tensor,
        hidden_size: int,
        hidden_sizes: tuple[int, ...],
        dropout: float,
        normalise: bool,
        tune: bool,
    ) -> None:
        super().__init__()
        self.normalise = normalise
        present = ~item_vectors.isnan().any(1)
        self.present: Tensor
        self.register_buffer("present", present, persistent=False)
        self.vectors = nn.Parameter(item_vectors.where(present[:, None], 0.0), requires_grad=tune)
        self.dropout = nn.Dropout(dropout)
        self.project = MLP(
            input_size=item_vectors.shape[1],
            hidden_sizes=hidden_sizes,
            output_size=hidden_size,
            dropout=dropout,
        )
        self.missing = nn.Parameter(torch.randn(hidden_size) * 0.1)

    def forward(self, items: ItemBatch) -> Tensor:
        """N items -> ``(N, D)``; ids beyond the given vectors have none."""
        inside = items.ids < self.present.numel()
        ids = items.ids.where(inside, 0)
        vectors = gather(self.vectors, ids)  # (N, E)
        if self.normalise:
            length = vectors.norm(dim=1, keepdim=True)
            vectors = vectors / length.where(length > 0, 1.0)
        projected = self.project(self.dropout(vectors))  # (N, D)
        return torch.where((self.present[ids] & inside)[:, None], projected, self.missing)
