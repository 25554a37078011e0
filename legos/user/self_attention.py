"""NRMS (EMNLP 2019): self-attention over the history, pooled by additive attention.

Wu et al., "Neural News Recommendation with Multi-Head Self-Attention", EMNLP-IJCNLP 2019,
section 3.2. There are no positions: the order of the history does not matter.
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
from legos.registry import UserEncoderConfig, user_encoders


class SelfAttentionConfig(SelfAttentionSettings, UserEncoderConfig):
    name: Literal["self_attention"] = "self_attention"


@user_encoders.register(SelfAttentionConfig)
class SelfAttentionUser(nn.Module):
    """Relate the items of a history to each other, then pool them."""

    order_aware = False

    def __init__(self, settings: SelfAttentionConfig, *, hidden_size: int) -> None:
        super().__init__()
        self.self_attention = MultiHeadSelfAttention(
            hidden_size=hidden_size,
            num_heads=settings.num_heads,
            output_projection=settings.output_projection,
        )
        self.dropout = Dropout(settings.dropout)
        self.attention = AdditiveAttention(hidden_size, settings.attention_size)

    def forward(self, history: Tensor, mask: Tensor) -> Tensor:
        """``(B, H, D)`` and bool ``(B, H)`` -> ``(B, D)``; zeros for an empty history."""
        contextual = self.dropout(self.self_attention(history, mask))  # (B, H, D)
        user: Tensor = self.attention(contextual, mask)
        return user
