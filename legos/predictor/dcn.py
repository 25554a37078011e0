"""DCN: a cross network beside a perceptron, joined by a linear layer.

Wang et al., "Deep & Cross Network for Ad Click Predictions", ADKDD 2017, equations 3-7.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.cross import CrossNetwork, VectorCross
from legos.blocks.fields import FIELDS, side_by_side
from legos.blocks.mlp import DeepSettings, HiddenLayers
from legos.registry import predictors


class DCNConfig(DeepSettings):
    """Settings of DCN (two layers of 1024 in the paper)."""

    name: Literal["dcn"] = "dcn"
    num_cross_layers: int = Field(3, ge=1)
    """Cross layers (6 in the paper, 3 in Legommenders)."""


@predictors.register(DCNConfig)
class DCN(nn.Module):
    """Cross network and perceptron over [u; c].

    Args:
        hidden_size: D.
        hidden_sizes: widths of the perceptron.
        dropout: rate after every hidden layer.
        num_cross_layers: cross layers.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        hidden_sizes: tuple[int, ...],
        dropout: float,
        num_cross_layers: int,
    ) -> None:
        super().__init__()
        width = FIELDS * hidden_size
        self.cross = CrossNetwork([VectorCross(size=width) for _ in range(num_cross_layers)])
        self.deep = HiddenLayers(input_size=width, sizes=hidden_sizes, dropout=dropout)
        self.combine = nn.Linear(width + self.deep.output_size, 1)

    def forward(self, user: Tensor, candidates: Tensor) -> Tensor:
        """``(B, 1 or C, D)`` and ``(B, C, D)`` -> ``(B, C)``."""
        first = side_by_side(user, candidates)  # (B, C, 2D)
        scores: Tensor = self.combine(torch.cat([self.cross(first), self.deep(first)], -1))
        return scores.squeeze(-1)
