"""Fastformer (2021) layers over the history, pooled by additive attention.

Wu et al., "Fastformer: Additive Attention Can Be All You Need", 2021 (arXiv:2108.09084), section 4,
where it models the user in news recommendation. A position counts how many items ago.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from legos.blocks.attention import AdditiveAttention, LearnedPositions
from legos.blocks.fastformer import Fastformer, FastformerSettings
from legos.registry import UserEncoderConfig, user_encoders


class FastformerConfig(FastformerSettings, UserEncoderConfig):
    name: Literal["fastformer"] = "fastformer"
    max_history: int = Field(100, ge=1)
    """Longest history that there are positions for; set it as data cuts histories."""


@user_encoders.register(FastformerConfig)
class FastformerUser(nn.Module):
    """Relate the items of a history to each other in linear time, then pool them."""

    def __init__(self, settings: FastformerConfig, *, hidden_size: int) -> None:
        super().__init__()
        self.order_aware = settings.positions
        places = LearnedPositions(
            count=settings.max_history, size=hidden_size, from_end=True, setting="max_history"
        )
        self.fastformer = Fastformer(
            settings, hidden_size=hidden_size, positions=places if settings.positions else None
        )
        self.attention = AdditiveAttention(hidden_size, settings.attention_size)

    def forward(self, history: Tensor, mask: Tensor) -> Tensor:
        """``(B, H, D)`` and bool ``(B, H)`` -> ``(B, D)``; zeros for an empty history.

        Raises:
            ConfigError: with positions, H is more than ``max_history``.
        """
        user: Tensor = self.attention(self.fastformer(history, mask), mask)
        return user
