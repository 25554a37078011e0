"""PNN (ICDM 2016): products of user and candidate, then a perceptron.

Qu et al., "Product-based Neural Networks for User Response Prediction", ICDM 2016, equations 2-12:
the first hidden layer is relu(l_z + l_p + b), l_z linear in the fields, l_p linear in their inner
products (IPNN, with the paper's rank-one weights) or in the outer product of their sum (OPNN).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from legos.blocks.dropout import Dropout
from legos.blocks.embedding import FIELDS, as_fields, pairwise_products
from legos.blocks.mlp import MLP, DeepSettings
from legos.registry import predictors

Product = Literal["inner", "outer"]
Variant = Literal["paper", "legommenders"]


class PNNConfig(DeepSettings):
    name: Literal["pnn"] = "pnn"
    hidden_sizes: tuple[PositiveInt, ...] = Field((256, 128), min_length=1)
    """Widths of the hidden layers, the first of them the product layer (Legommenders: 1000)."""
    product: Product = "inner"
    """`inner` products of the fields (IPNN) or the `outer` product of their sum (OPNN)."""
    variant: Variant = "paper"
    """`legommenders`: a perceptron over [u; c; u·c], whatever the product."""


@predictors.register(PNNConfig)
class PNN(nn.Module):
    """Product layer and perceptron."""

    def __init__(self, settings: PNNConfig, *, hidden_size: int) -> None:
        super().__init__()
        first, *rest = settings.hidden_sizes
        self.product = settings.product if settings.variant == "paper" else None
        extra = 1 if self.product is None else 0  # the inner product beside both vectors
        self.linear = nn.Linear(FIELDS * hidden_size + extra, first)
        if self.product is not None:
            inner = self.product == "inner"
            shape = (first, FIELDS) if inner else (first, hidden_size, hidden_size)
            self.weight = nn.Parameter(torch.empty(shape))
            bound = (FIELDS * hidden_size if inner else hidden_size**2) ** -0.5
            nn.init.uniform_(self.weight, -bound, bound)
        self.dropout = Dropout(settings.dropout)
        self.mlp = MLP(first, rest, 1, dropout=settings.dropout)

    def forward(self, user: Tensor, candidates: Tensor) -> Tensor:
        """``(B, 1 or C, D)`` and ``(B, C, D)`` -> ``(B, C)``."""
        fields = as_fields(user, candidates)  # (B, C, F, D)
        flat = fields.flatten(-2)
        if self.product is None:
            flat = torch.cat([flat, pairwise_products(fields)[..., None]], -1)
        hidden = self.linear(flat)  # (B, C, first)
        if self.product == "inner":
            products = (fields @ fields.mT).flatten(-2)  # (B, C, F * F)
            rank_one = self.weight[:, :, None] * self.weight[:, None, :]  # (first, F, F)
            hidden = hidden + F.linear(products, rank_one.flatten(1))
        elif self.product == "outer":
            total = fields.sum(-2)  # (B, C, D)
            outer = (total[..., :, None] * total[..., None, :]).flatten(-2)  # (B, C, D * D)
            hidden = hidden + F.linear(outer, self.weight.flatten(1))
        scores: Tensor = self.mlp(self.dropout(torch.relu(hidden)))
        return scores.squeeze(-1)
