"""A multi-layer perceptron over user and candidate (NCF, He et al., WWW 2017, section 3.3)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from legos.blocks.embedding import side_by_side
from legos.blocks.mlp import MLP, DeepSettings
from legos.registry import predictors


class MLPConfig(DeepSettings):
    name: Literal["mlp"] = "mlp"


@predictors.register(MLPConfig)
class MLPPredictor(nn.Module):
    """Score the concatenation of user and candidate."""

    def __init__(self, settings: MLPConfig, *, hidden_size: int) -> None:
        super().__init__()
        self.mlp = MLP(2 * hidden_size, settings.hidden_sizes, 1, dropout=settings.dropout)

    def forward(self, user: Tensor, candidates: Tensor) -> Tensor:
        """``(B, 1 or C, D)`` and ``(B, C, D)`` -> ``(B, C)``."""
        scores: Tensor = self.mlp(side_by_side(user, candidates))  # (B, C, 1)
        return scores.squeeze(-1)
