"""DIN (KDD 2018): attention of the candidate to the history, then a perceptron.

Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018, section 4.3; user
encoder ``sequence`` passes the history on. ``variant: legommenders`` leaves the candidate out of
the MLP, as the predecessor does: for a user without a history, all candidates then score the same.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.attention import TargetAttention, TargetAttentionSettings
from legos.blocks.mlp import ActivatedLayers
from legos.registry import PredictorConfig, UserOutput, predictors
from legos.settings import Count

Variant = Literal["paper", "legommenders"]


class DINConfig(TargetAttentionSettings, PredictorConfig):
    name: Literal["din"] = "din"
    hidden_sizes: tuple[Count, ...] = Field((200, 80), min_length=1)
    """Hidden widths of the MLP that scores (200 and 80 in the paper's figure 2)."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Rate after every hidden layer that scores (0.1 in Legommenders)."""
    variant: Variant = "paper"
    """`legommenders`: the scoring MLP sees the user's interest alone."""

    @property
    def accepts(self) -> frozenset[UserOutput]:
        """The whole history."""
        return frozenset({"sequence"})


@predictors.register(DINConfig)
class DIN(nn.Module):
    """Attend to the history, score interest and candidate."""

    def __init__(self, settings: DINConfig, *, hidden_size: int) -> None:
        super().__init__()
        self.variant = settings.variant
        self.attention = TargetAttention(settings, hidden_size=hidden_size)
        width = hidden_size if settings.variant == "legommenders" else 2 * hidden_size
        self.first = nn.Linear(width, settings.hidden_sizes[0])
        self.rest = ActivatedLayers(
            sizes=(*settings.hidden_sizes, 1),
            activation=settings.activation,
            dropout=settings.dropout,
        )

    def forward(self, history: Tensor, candidates: Tensor, mask: Tensor) -> Tensor:
        """``(B, H, D)``, ``(B, C, D)`` and bool ``(B, H)`` -> ``(B, C)``."""
        interest = self.attention(history, candidates, mask)  # (B, C, D)
        if self.variant == "paper":
            interest = torch.cat([interest, candidates], -1)  # (B, C, 2D)
        scores: Tensor = self.rest(self.first(interest))
        return scores.squeeze(-1)
