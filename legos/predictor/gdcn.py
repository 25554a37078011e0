"""GDCN: a cross network whose every order passes a gate, beside or below a perceptron.

Wang et al., "Towards Deeper, Lighter and Interpretable Cross Network for CTR Prediction", CIKM
2023, equations 3 and 6-8 (GDCN-P and GDCN-S).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.cross import CrossNetwork, GatedCross
from legos.blocks.fields import FIELDS, side_by_side
from legos.blocks.mlp import DeepSettings, HiddenLayers
from legos.registry import predictors

Structure = Literal["parallel", "stacked"]


class GDCNConfig(DeepSettings):
    """Settings of GDCN."""

    name: Literal["gdcn"] = "gdcn"
    structure: Structure = "parallel"
    """`parallel` (GDCN-P) or `stacked` (GDCN-S)."""
    num_cross_layers: int = Field(3, ge=1)
    """Gated cross layers (3 in Legommenders; deeper ones still gain in the paper)."""


@predictors.register(GDCNConfig)
class GDCN(nn.Module):
    """Gated cross network and perceptron over [u; c].

    Args:
        hidden_size: D.
        hidden_sizes: widths of the perceptron.
        dropout: rate after every hidden layer.
        structure: ``parallel`` or ``stacked``.
        num_cross_layers: cross layers.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        hidden_sizes: tuple[int, ...],
        dropout: float,
        structure: Structure,
        num_cross_layers: int,
    ) -> None:
        super().__init__()
        width = FIELDS * hidden_size
        self.is_parallel = structure == "parallel"
        self.cross = CrossNetwork([GatedCross(size=width) for _ in range(num_cross_layers)])
        self.deep = HiddenLayers(input_size=width, sizes=hidden_sizes, dropout=dropout)
        self.combine = nn.Linear(self.deep.output_size + width * self.is_parallel, 1)

    def forward(self, user: Tensor, candidates: Tensor) -> Tensor:
        """``(B, 1 or C, D)`` and ``(B, C, D)`` -> ``(B, C)``."""
        first = side_by_side(user, candidates)  # (B, C, 2D)
        crossed = self.cross(first)
        if self.is_parallel:
            last = torch.cat([crossed, self.deep(first)], -1)
        else:
            last = self.deep(crossed)
        scores: Tensor = self.combine(last)
        return scores.squeeze(-1)
