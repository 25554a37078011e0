"""GDCN (CIKM 2023): a cross network with a gate at every order, and a perceptron.

Wang et al., "Towards Deeper, Lighter and Interpretable Cross Network for CTR Prediction", CIKM
2023, equations 3 and 6-8 (GDCN-P and GDCN-S).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from legos.blocks.cross import CrossAndDeep, GatedCross, Structure
from legos.blocks.embedding import FIELDS
from legos.blocks.mlp import DeepSettings
from legos.registry import predictors


class GDCNConfig(DeepSettings):
    name: Literal["gdcn"] = "gdcn"
    structure: Structure = "parallel"
    """`parallel` (GDCN-P) or `stacked` (GDCN-S)."""
    num_cross_layers: int = Field(3, ge=1)
    """Gated cross layers (3 in Legommenders; deeper ones still gain in the paper)."""


@predictors.register(GDCNConfig)
class GDCN(CrossAndDeep):
    """Gated cross network and perceptron over [u; c]."""

    def __init__(self, settings: GDCNConfig, *, hidden_size: int) -> None:
        super().__init__(
            settings,
            [GatedCross(size=FIELDS * hidden_size) for _ in range(settings.num_cross_layers)],
            hidden_size=hidden_size,
            structure=settings.structure,
        )
