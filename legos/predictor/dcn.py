"""DCN (ADKDD 2017): a cross network beside a perceptron, joined by a linear layer.

Wang et al., "Deep & Cross Network for Ad Click Predictions", ADKDD 2017, equations 3-7.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from legos.blocks.cross import CrossAndDeep, VectorCross
from legos.blocks.embedding import FIELDS
from legos.blocks.mlp import DeepSettings
from legos.registry import predictors


class DCNConfig(DeepSettings):
    """Settings of DCN (two layers of 1024 in the paper)."""

    name: Literal["dcn"] = "dcn"
    num_cross_layers: int = Field(3, ge=1)
    """Cross layers (6 in the paper, 3 in Legommenders)."""


@predictors.register(DCNConfig)
class DCN(CrossAndDeep):
    """Cross network and perceptron over [u; c]."""

    def __init__(self, settings: DCNConfig, *, hidden_size: int) -> None:
        super().__init__(
            settings,
            [VectorCross(size=FIELDS * hidden_size) for _ in range(settings.num_cross_layers)],
            hidden_size=hidden_size,
        )
