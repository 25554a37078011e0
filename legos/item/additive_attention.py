"""Additive attention over all tokens of an item, all fields in one sequence.

Legommenders calls it ``Ada``. The pooling is that of Wu et al., "Neural News Recommendation with
Attentive Multi-View Learning", IJCAI 2019 (arXiv:1907.05576), equations 2-4, without the
convolution. A category is one more token of the sequence.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from legos.blocks.attention import AdditiveAttention
from legos.blocks.embedding import FieldEmbeddings
from legos.blocks.packed import gather, segment_softmax, segment_sum
from legos.data.items import ItemBatch
from legos.registry import BrickConfig, item_encoders


class AdditiveAttentionConfig(BrickConfig):
    name: Literal["additive_attention"] = "additive_attention"
    attention_size: int = Field(200, ge=1)
    """Width of the tanh layer (200 in the paper, 256 in Legommenders)."""


@item_encoders.register(AdditiveAttentionConfig)
class AdditiveAttentionItem(nn.Module):
    """Pool the tokens of an item by a learned query."""

    def __init__(
        self, settings: AdditiveAttentionConfig, *, embeddings: FieldEmbeddings, hidden_size: int
    ) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.attention = AdditiveAttention(hidden_size, settings.attention_size)

    def forward(self, items: ItemBatch) -> Tensor:
        """Content of N items -> ``(N, D)``; zeros for an item without tokens."""
        tokens = self.embeddings.tokens(items)
        scores = self.attention.scores(tokens.distinct)  # (U,): once per distinct token
        weights = segment_softmax(gather(scores, tokens.index), tokens.rows, len(items))  # (P,)
        return segment_sum(weights[:, None] * tokens.vectors, tokens.rows, len(items))
