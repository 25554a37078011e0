"""A multi-layer perceptron over user and candidate (NCF, He et al., WWW 2017, section 3.3)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.mlp import MLP
from legos.registry import PredictorConfig, predictors


class MLPConfig(PredictorConfig):
    """Settings of the MLP predictor."""

    name: Literal["mlp"] = "mlp"
    hidden_sizes: tuple[int, ...] = (256, 128)
    """Widths of the hidden layers (Legommenders: three of 1000)."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Rate after every hidden layer."""


@predictors.register(MLPConfig)
class MLPPredictor(nn.Module):
    """Score the concatenation of user and candidate.

    Args:
        hidden_size: D.
        hidden_sizes: widths of the hidden layers.
        dropout: rate after every hidden layer.
    """

    def __init__(self, *, hidden_size: int, hidden_sizes: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.mlp = MLP(
            input_size=2 * hidden_size, hidden_sizes=hidden_sizes, output_size=1, dropout=dropout
        )

    def forward(self, user: Tensor, candidates: Tensor) -> Tensor:
        """``(B, 1 or C, D)`` and ``(B, C, D)`` -> ``(B, C)``."""
        pairs = torch.cat([user.expand_as(candidates), candidates], -1)  # (B, C, 2D)
        scores: Tensor = self.mlp(pairs)
        return scores.squeeze(-1)
