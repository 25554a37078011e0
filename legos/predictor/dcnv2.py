"""DCN V2: a cross network with matrices (or low-rank experts), beside or below a perceptron.

Wang et al., "DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to
Rank Systems", WWW 2021, equations 1-4 and figure 2.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.cross import CrossNetwork, ExpertsCross, MatrixCross
from legos.blocks.fields import FIELDS, side_by_side
from legos.blocks.mlp import DeepSettings, HiddenLayers
from legos.registry import predictors

Structure = Literal["stacked", "parallel"]
Variant = Literal["paper", "legommenders"]


class DCNv2Config(DeepSettings):
    """Settings of DCN V2 (two layers of 768 in the paper, on Criteo)."""

    name: Literal["dcnv2"] = "dcnv2"
    structure: Structure = "parallel"
    """`parallel`: the perceptron beside the cross network; `stacked`: on top of it."""
    num_cross_layers: int = Field(3, ge=1)
    """Cross layers (2 to 4 in the paper, 3 in Legommenders)."""
    mixture: bool = False
    """Low-rank experts in place of the full matrix (the paper's DCN-Mix)."""
    num_experts: int = Field(4, ge=1)
    """Experts of a mixture (4 in the paper and in Legommenders)."""
    rank: int = Field(32, ge=1)
    """Rank of an expert (32 in Legommenders; the paper goes up to 258)."""
    variant: Variant = "paper"
    """`legommenders`: the parallel perceptron takes the cross network's output, not the input."""


@predictors.register(DCNv2Config)
class DCNv2(nn.Module):
    """Cross network and perceptron over [u; c].

    Args:
        hidden_size: D.
        hidden_sizes: widths of the perceptron.
        dropout: rate after every hidden layer.
        structure: ``stacked`` or ``parallel``.
        num_cross_layers: cross layers.
        mixture: low-rank experts.
        num_experts: of a mixture.
        rank: of an expert.
        variant: ``paper`` or ``legommenders``.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        hidden_sizes: tuple[int, ...],
        dropout: float,
        structure: Structure,
        num_cross_layers: int,
        mixture: bool,
        num_experts: int,
        rank: int,
        variant: Variant,
    ) -> None:
        super().__init__()
        width = FIELDS * hidden_size
        self.cross = CrossNetwork(
            [
                ExpertsCross(size=width, num_experts=num_experts, rank=rank)
                if mixture
                else MatrixCross(size=width)
                for _ in range(num_cross_layers)
            ]
        )
        self.deep = HiddenLayers(input_size=width, sizes=hidden_sizes, dropout=dropout)
        self.is_parallel = structure == "parallel"
        self.deep_reads_input = self.is_parallel and variant == "paper"
        self.combine = nn.Linear(self.deep.output_size + width * self.is_parallel, 1)

    def forward(self, user: Tensor, candidates: Tensor) -> Tensor:
        """``(B, 1 or C, D)`` and ``(B, C, D)`` -> ``(B, C)``."""
        first = side_by_side(user, candidates)  # (B, C, 2D)
        crossed = self.cross(first)
        last = self.deep(first if self.deep_reads_input else crossed)
        if self.is_parallel:
            last = torch.cat([crossed, last], -1)
        scores: Tensor = self.combine(last)
        return scores.squeeze(-1)
