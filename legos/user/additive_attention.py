"""NAML (IJCAI 2019): additive attention over the history.

Wu et al., "Neural News Recommendation with Attentive Multi-View Learning", IJCAI 2019
(arXiv:1907.05576), section 3.2.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from legos.blocks.attention import AdditiveAttention
from legos.registry import UserEncoderConfig, user_encoders


class AdditiveAttentionConfig(UserEncoderConfig):
    name: Literal["additive_attention"] = "additive_attention"
    attention_size: int = Field(200, ge=1)
    """Width of the tanh layer (200 in the paper)."""


@user_encoders.register(AdditiveAttentionConfig)
class AdditiveAttentionUser(nn.Module):
    """Pool the history by a learned query."""

    order_aware = False

    def __init__(self, settings: AdditiveAttentionConfig, *, hidden_size: int) -> None:
        super().__init__()
        self.attention = AdditiveAttention(hidden_size, settings.attention_size)

    def forward(self, history: Tensor, mask: Tensor) -> Tensor:
        """``(B, H, D)`` and bool ``(B, H)`` -> ``(B, D)``; zeros for an empty history."""
        user: Tensor = self.attention(history, mask)
        return user
