"""DeepFM (IJCAI 2017): the sum of a linear part, a factorization machine and a perceptron.

Guo et al., "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction", IJCAI 2017,
equations 1-5. The paper's first-order part weighs one-hot features; here the fields are vectors (an
item's content, a user's history), so a linear map weighs them. There is no batch normalisation.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from legos.blocks.embedding import FIELDS, as_fields, pairwise_products
from legos.blocks.mlp import MLP, DeepSettings
from legos.registry import predictors

Variant = Literal["paper", "legommenders"]


class DeepFMConfig(DeepSettings):
    """Settings of DeepFM (three layers of 400 in the paper)."""

    name: Literal["deepfm"] = "deepfm"
    variant: Variant = "paper"
    """`legommenders`: no first order, and the mean of the other two instead of their sum."""


@predictors.register(DeepFMConfig)
class DeepFM(nn.Module):
    """``w·[u; c] + b + u·c + MLP([u; c])``."""

    def __init__(self, settings: DeepFMConfig, *, hidden_size: int) -> None:
        super().__init__()
        width = FIELDS * hidden_size
        self.first_order = nn.Linear(width, 1) if settings.variant == "paper" else None
        self.mlp = MLP(width, settings.hidden_sizes, 1, dropout=settings.dropout)

    def forward(self, user: Tensor, candidates: Tensor) -> Tensor:
        """``(B, 1 or C, D)`` and ``(B, C, D)`` -> ``(B, C)``."""
        fields = as_fields(user, candidates)  # (B, C, F, D)
        flat = fields.flatten(-2)  # (B, C, F * D)
        second_order, deep = pairwise_products(fields), self.mlp(flat).squeeze(-1)
        scores: Tensor = second_order + deep
        if self.first_order is None:
            return scores / 2
        first_order: Tensor = self.first_order(flat).squeeze(-1)
        return scores + first_order
