"""A multi-layer perceptron over user and candidate (NCF, He et al., WWW 2017, section 3.3)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from legos.blocks.fields import side_by_side
from legos.blocks.mlp import MLP, DeepSettings
from legos.registry import predictors


class MLPConfig(DeepSettings):
    """Settings of the MLP predictor."""

    name: Literal["mlp"] = "mlp"


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
        scores: Tensor = self.mlp(side_by_side(user, candidates))  # (B, C, 1)
        return scores.squeeze(-1)
