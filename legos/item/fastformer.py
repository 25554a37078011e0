"""Fastformer layers over all tokens of an item, pooled by additive attention.

Wu et al., "Fastformer: Additive Attention Can Be All You Need", 2021 (arXiv:2108.09084), section 4,
where it reads news titles. Here all fields are one sequence, text after text in the order of the
data YAML, then each category as one token, as in Legommenders' ``Fastformer``, which has one linear
layer more after the pooling.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from legos.blocks.attention import AdditiveAttention
from legos.blocks.embedding import FieldEmbeddings
from legos.blocks.fastformer import Fastformer, FastformerSettings
from legos.blocks.positions import LearnedPositions
from legos.data.items import ItemBatch
from legos.registry import item_encoders


class FastformerConfig(FastformerSettings):
    """Settings of the Fastformer item encoder."""

    name: Literal["fastformer"] = "fastformer"
    max_positions: int = Field(512, ge=1)
    """Most tokens an item may have, where there are positions (1024 in Legommenders)."""


@item_encoders.register(FastformerConfig)
class FastformerItem(nn.Module):
    """Relate the tokens of an item to each other, then pool them.

    Args:
        embeddings: vectors of every field.
        hidden_size: D.
        num_layers: Fastformer layers.
        num_heads: heads of the additive attention.
        feed_forward_size: width of the feed-forward part's hidden layer; None: 4 D.
        dropout: rate on the input and within the layers.
        share_layers: all layers have the same parameters.
        positions: learned positions.
        attention_size: width of the additive attention that pools the output.
        max_positions: most tokens an item may have.

    Raises:
        ConfigError: items may have more tokens than positions, or ``num_heads`` does not divide
            ``hidden_size``.
    """

    def __init__(
        self,
        *,
        embeddings: FieldEmbeddings,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        feed_forward_size: int | None,
        dropout: float,
        share_layers: bool,
        positions: bool,
        attention_size: int,
        max_positions: int,
    ) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.fastformer = Fastformer(
            hidden_size=hidden_size,
            num_layers=num_layers,
            num_heads=num_heads,
            feed_forward_size=feed_forward_size,
            dropout=dropout,
            share_layers=share_layers,
            positions=LearnedPositions.of_fields(embeddings, max_positions) if positions else None,
        )
        self.attention = AdditiveAttention(input_size=hidden_size, attention_size=attention_size)

    def forward(self, items: ItemBatch) -> Tensor:
        """Content of N items -> ``(N, D)``; zeros for an item without tokens."""
        tokens = self.embeddings.tokens(items)
        contextual = self.fastformer.packed(tokens)  # (P, D)
        return self.attention.packed(contextual, tokens.rows, len(items))
