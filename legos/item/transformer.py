"""Transformer layers over all tokens of an item, pooled by additive attention.

Vaswani et al., "Attention Is All You Need", NIPS 2017; as an item encoder it is Legommenders'
``Transformer`` (three layers), which MINER has there where it goes without BERT. All fields are one
sequence, text after text in the order of the data YAML, then each category as one token. Theirs
is a BERT without pretraining and has a normalisation of the input and a linear layer before the
pooling, which are left out.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from legos.blocks.attention import AdditiveAttention
from legos.blocks.embedding import FieldEmbeddings
from legos.blocks.positions import LearnedPositions
from legos.blocks.transformer import Activation, Norm, Transformer, TransformerSettings
from legos.data.items import ItemBatch
from legos.registry import item_encoders


class TransformerConfig(TransformerSettings):
    """Settings of the Transformer item encoder."""

    name: Literal["transformer"] = "transformer"
    max_positions: int = Field(512, ge=1)
    """Most tokens an item may have (1024 in Legommenders)."""


@item_encoders.register(TransformerConfig)
class TransformerItem(nn.Module):
    """Relate the tokens of an item to each other, then pool them.

    Args:
        embeddings: vectors of every field.
        hidden_size: D.
        num_layers: Transformer layers.
        num_heads: heads of the self-attention.
        feed_forward_size: width of the feed-forward part's hidden layer; None: 4 D.
        dropout: rate on the input and within the layers.
        activation: of the feed-forward part.
        norm: ``post`` or ``pre``.
        attention_size: width of the additive attention.
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
        activation: Activation,
        norm: Norm,
        attention_size: int,
        max_positions: int,
    ) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.transformer = Transformer(
            hidden_size=hidden_size,
            num_layers=num_layers,
            num_heads=num_heads,
            feed_forward_size=feed_forward_size,
            dropout=dropout,
            activation=activation,
            norm=norm,
            positions=LearnedPositions.of_fields(embeddings, max_positions),
        )
        self.attention = AdditiveAttention(input_size=hidden_size, attention_size=attention_size)

    def forward(self, items: ItemBatch) -> Tensor:
        """Content of N items -> ``(N, D)``; zeros for an item without tokens."""
        tokens = self.embeddings.tokens(items)
        contextual = self.transformer.packed(tokens)  # (P, D)
        return self.attention.packed(contextual, tokens.rows, len(items))
