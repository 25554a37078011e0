"""User and candidate as the fields of a click-through network: F = 2, and products between them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FIELDS = 2
"""F: the user and the candidate."""


def side_by_side(user: Tensor, candidates: Tensor) -> Tensor:
    """``(B, 1 or C, D)`` and ``(B, C, D)`` -> ``(B, C, 2D)``: user, then candidate."""
    return torch.cat([user.expand_as(candidates), candidates], -1)


def as_fields(user: Tensor, candidates: Tensor) -> Tensor:
    """``(B, 1 or C, D)`` and ``(B, C, D)`` -> ``(B, C, F, D)``: user, then candidate."""
    return torch.stack([user.expand_as(candidates), candidates], -2)


def pairwise_products(fields: Tensor) -> Tensor:
    """Sum of the inner products of all pairs of fields: ``(..., F, D)`` -> ``(...)``.

    Rendle, "Factorization Machines", ICDM 2010, lemma 3.1: half of the square of the sum less the
    sum of the squares.
    """
    return 0.5 * (fields.sum(-2).square() - fields.square().sum(-2)).sum(-1)


class FieldAttention(nn.Module):
    """One interacting layer of AutoInt: heads of attention between the fields, residual, ReLU.

    Song et al., CIKM 2019, equations 5-8; the attention is not scaled.

    Args:
        input_size: width of a field that comes in.
        num_heads: heads.
        head_size: width of a head; fields come out ``num_heads * head_size`` wide.
    """

    def __init__(self, *, input_size: int, num_heads: int, head_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.project = nn.Linear(input_size, 3 * num_heads * head_size, bias=False)
        self.residual = nn.Linear(input_size, num_heads * head_size, bias=False)

    def forward(self, fields: Tensor) -> Tensor:
        """``(..., F, I)`` -> ``(..., F, h * d)``."""
        shape = (*fields.shape[:-1], 3, self.num_heads, -1)
        query, key, value = self.project(fields).view(shape).movedim(-3, 0)  # (..., F, h, d)
        weights = torch.einsum("...ihd,...jhd->...hij", query, key).softmax(-1)
        attended = torch.einsum("...hij,...jhd->...ihd", weights, value).flatten(-2)
        return torch.relu(attended + self.residual(fields))
