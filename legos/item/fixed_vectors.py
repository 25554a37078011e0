"""Precomputed item vectors (of a text, image or other model), projected by a trained layer.

A frozen encoder's output through one linear layer or an MLP is the plain baseline of content-based
recommendation; no single paper is followed. Items without a vector share one learned vector.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from legos.blocks.embedding import GivenVectors, GivenVectorsSettings
from legos.data.items import ItemBatch
from legos.registry import BrickConfig, item_encoders


class FixedVectorsConfig(GivenVectorsSettings, BrickConfig):
    """Settings of the item encoder over given vectors (`embed.item_vectors`)."""

    name: Literal["fixed_vectors"] = "fixed_vectors"


@item_encoders.register(FixedVectorsConfig)
class FixedVectors(GivenVectors):
    """Look up an item's precomputed vector and project it.

    Args:
        item_vectors: ``(items, E)`` float32; a row of NaN for an item without a vector.
    """

    def __init__(
        self, settings: FixedVectorsConfig, *, item_vectors: Tensor, hidden_size: int
    ) -> None:
        super().__init__(settings, vectors=item_vectors, hidden_size=hidden_size)

    def forward(self, items: ItemBatch) -> Tensor:
        """N items -> ``(N, D)``; ids beyond the given vectors have none."""
        return self.look_up(items.ids)
