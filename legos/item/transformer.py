"""Transformer (NIPS 2017) layers over all tokens of an item, pooled by additive attention.

Vaswani et al., "Attention Is All You Need", NIPS 2017; as an item encoder it is Legommenders'
``Transformer`` (three layers), which its MINER uses in place of BERT. All fields are one
sequence, text after text in the order of the data YAML, then each category as one token. Theirs
is a BERT without pretraining and has a normalisation of the input and a linear layer before the
pooling, which are left out.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from legos.blocks.attention import AdditiveAttention, LearnedPositions
from legos.blocks.embedding import FieldEmbeddings
from legos.blocks.transformer import Transformer, TransformerSettings
from legos.data.items import ItemBatch
from legos.registry import BrickConfig, item_encoders


class TransformerConfig(TransformerSettings, BrickConfig):
    name: Literal["transformer"] = "transformer"
    max_positions: int = Field(512, ge=1)
    """Most tokens an item may have (1024 in Legommenders)."""


@item_encoders.register(TransformerConfig)
class TransformerItem(nn.Module):
    """Relate the tokens of an item to each other, then pool them."""

    def __init__(
        self, settings: TransformerConfig, *, embeddings: FieldEmbeddings, hidden_size: int
    ) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.transformer = Transformer(
            settings,
            hidden_size=hidden_size,
            positions=LearnedPositions.of_fields(embeddings, settings.max_positions),
        )
        self.attention = AdditiveAttention(hidden_size, settings.attention_size)

    def forward(self, items: ItemBatch) -> Tensor:
        """Content of N items -> ``(N, D)``; zeros for an item without tokens."""
        tokens = self.embeddings.tokens(items)
        contextual = self.transformer.packed(tokens)  # (P, D)
        return self.attention.packed(contextual, tokens.rows, len(items))
