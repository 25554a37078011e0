"""DCN V2 (WWW 2021): a cross network with matrices or low-rank experts, and a perceptron.

Wang et al., "DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale Learning to
Rank Systems", WWW 2021, equations 1-4 and figure 2.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from legos.blocks.cross import CrossAndDeep, ExpertsCross, MatrixCross, Structure
from legos.blocks.embedding import FIELDS
from legos.blocks.mlp import DeepSettings
from legos.registry import predictors

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
class DCNv2(CrossAndDeep):
    """Cross network and perceptron over [u; c]."""

    def __init__(self, settings: DCNv2Config, *, hidden_size: int) -> None:
        width = FIELDS * hidden_size
        super().__init__(
            settings,
            [
                ExpertsCross(size=width, num_experts=settings.num_experts, rank=settings.rank)
                if settings.mixture
                else MatrixCross(size=width)
                for _ in range(settings.num_cross_layers)
            ],
            hidden_size=hidden_size,
            structure=settings.structure,
            deep_reads_input=settings.variant == "paper",
        )
