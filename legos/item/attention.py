"""NRMS (EMNLP 2019): self-attention over the words of an item, pooled by additive attention.

Wu et al., "Neural News Recommendation with Multi-Head Self-Attention", EMNLP-IJCNLP 2019,
section 3.1. The paper reads the title alone; here every text field of the data YAML follows the
other in one sequence, and a category is one more token, as in Legommenders.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from legos.blocks.attention import (
    AdditiveAttention,
    MultiHeadSelfAttention,
    SelfAttentionSettings,
)
from legos.blocks.dropout import Dropout
from legos.blocks.embedding import FieldEmbeddings
from legos.data.items import ItemBatch
from legos.registry import BrickConfig, item_encoders


class AttentionConfig(SelfAttentionSettings, BrickConfig):
    name: Literal["attention"] = "attention"


@item_encoders.register(AttentionConfig)
class Attention(nn.Module):
    """Self-attention and additive attention over all tokens of an item."""

    def __init__(
        self, settings: AttentionConfig, *, embeddings: FieldEmbeddings, hidden_size: int
    ) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.self_attention = MultiHeadSelfAttention(
            hidden_size=hidden_size,
            num_heads=settings.num_heads,
            output_projection=settings.output_projection,
        )
        self.dropout = Dropout(settings.dropout)
        self.attention = AdditiveAttention(hidden_size, settings.attention_size)

    def forward(self, items: ItemBatch) -> Tensor:
        """Content of N items -> ``(N, D)``."""
        tokens = self.embeddings.tokens(items)
        contextual = self.dropout(self.self_attention.packed(tokens))  # (P, D)
        return self.attention.packed(contextual, tokens.rows, len(items))
