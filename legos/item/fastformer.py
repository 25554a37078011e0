"""Fastformer (2021) layers over all tokens of an item, pooled by additive attention.

Wu et al., "Fastformer: Additive Attention Can Be All You Need", 2021 (arXiv:2108.09084), section 4,
where it reads news titles. Here all fields are one sequence, text after text in the order of the
data YAML, then each category as one token, as in Legommenders' ``Fastformer``, which has one linear
layer more after the pooling.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from legos.blocks.attention import AdditiveAttention, LearnedPositions
from legos.blocks.embedding import FieldEmbeddings
from legos.blocks.fastformer import Fastformer, FastformerSettings
from legos.data.items import ItemBatch
from legos.registry import BrickConfig, item_encoders


class FastformerConfig(FastformerSettings, BrickConfig):
    name: Literal["fastformer"] = "fastformer"
    max_positions: int = Field(512, ge=1)
    """Most tokens an item may have, where there are positions (1024 in Legommenders)."""


@item_encoders.register(FastformerConfig)
class FastformerItem(nn.Module):
    """Relate the tokens of an item to each other, then pool them."""

    def __init__(
        self, settings: FastformerConfig, *, embeddings: FieldEmbeddings, hidden_size: int
    ) -> None:
        super().__init__()
        self.embeddings = embeddings
        positions = None
        if settings.positions:
            positions = LearnedPositions.of_fields(embeddings, settings.max_positions)
        self.fastformer = Fastformer(settings, hidden_size=hidden_size, positions=positions)
        self.attention = AdditiveAttention(hidden_size, settings.attention_size)

    def forward(self, items: ItemBatch) -> Tensor:
        """Content of N items -> ``(N, D)``; zeros for an item without tokens."""
        tokens = self.embeddings.tokens(items)
        contextual = self.fastformer.packed(tokens)  # (P, D)
        return self.attention.packed(contextual, tokens.rows, len(items))
