"""AutoInt (CIKM 2019): self-attention between user and candidate, then a linear layer.

Song et al., "AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural Networks",
CIKM 2019, equations 5-9; with ``hidden_sizes`` the paper's AutoInt+, a perceptron beside it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from legos.blocks.embedding import FIELDS, FieldAttention, as_fields
from legos.blocks.mlp import MLP, DeepSettings
from legos.registry import predictors


class AutoIntConfig(DeepSettings):
    name: Literal["autoint"] = "autoint"
    num_layers: int = Field(3, ge=1)
    """Interacting layers (3 in the paper)."""
    num_heads: int = Field(2, ge=1)
    """Heads of a layer (2 in the paper, 8 in Legommenders)."""
    head_size: int = Field(32, ge=1)
    """Width of a head (32 in the paper)."""
    hidden_sizes: tuple[PositiveInt, ...] = ()
    """Widths of the perceptron of AutoInt+ (two layers in the paper); none: AutoInt."""


@predictors.register(AutoIntConfig)
class AutoInt(nn.Module):
    """Attention between user and candidate."""

    def __init__(self, settings: AutoIntConfig, *, hidden_size: int) -> None:
        super().__init__()
        widths = [hidden_size, *[settings.num_heads * settings.head_size] * settings.num_layers]
        self.interact = nn.Sequential(
            *(
                FieldAttention(
                    input_size=width, num_heads=settings.num_heads, head_size=settings.head_size
                )
                for width in widths[:-1]
            )
        )
        self.output = nn.Linear(FIELDS * widths[-1], 1)
        self.mlp = None
        if settings.hidden_sizes:
            width = FIELDS * hidden_size
            self.mlp = MLP(width, settings.hidden_sizes, 1, dropout=settings.dropout)

    def forward(self, user: Tensor, candidates: Tensor) -> Tensor:
        """``(B, 1 or C, D)`` and ``(B, C, D)`` -> ``(B, C)``."""
        fields = as_fields(user, candidates)  # (B, C, F, D)
        scores: Tensor = self.output(self.interact(fields).flatten(-2))  # (B, C, 1)
        if self.mlp is not None:
            scores = scores + self.mlp(fields.flatten(-2))
        return scores.squeeze(-1)
