"""Cross networks: every layer multiplies what it has by the first input once more.

With a perceptron beside or on top of them they are the predictors DCN, DCN V2 and GDCN.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from legos.blocks.embedding import FIELDS, side_by_side
from legos.blocks.mlp import DeepSettings, HiddenLayers

Structure = Literal["stacked", "parallel"]


class VectorCross(nn.Module):
    """``x' = x0 (x·w) + b + x`` (DCN, Wang et al., ADKDD 2017, equation 3).

    Args:
        size: width of x.
    """

    def __init__(self, *, size: int) -> None:
        super().__init__()
        self.weight = nn.Linear(size, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(size))

    def forward(self, first: Tensor, current: Tensor) -> Tensor:
        """x0 and x, ``(..., size)`` -> ``(..., size)``."""
        result: Tensor = first * self.weight(current) + self.bias + current
        return result


class MatrixCross(nn.Module):
    """``x' = x0 ⊙ (W x + b) + x`` (DCN V2, Wang et al., WWW 2021, equation 1).

    Args:
        size: width of x.
    """

    def __init__(self, *, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, size)

    def forward(self, first: Tensor, current: Tensor) -> Tensor:
        """x0 and x, ``(..., size)`` -> ``(..., size)``."""
        result: Tensor = first * self.linear(current) + current
        return result


class ExpertsCross(nn.Module):
    """A gated mixture of low-rank cross layers (DCN V2, equations 3 and 4).

    ``x' = Σ_e G_e(x) · x0 ⊙ (U_e tanh(C_e tanh(V_eᵀ x)) + b) + x``, G a softmax over the experts.

    Args:
        size: width of x.
        num_experts: e.
        rank: of every expert.
    """

    def __init__(self, *, size: int, num_experts: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(num_experts, size, rank))
        self.middle = nn.Parameter(torch.empty(num_experts, rank, rank))
        self.up = nn.Parameter(torch.empty(num_experts, size, rank))
        for weight in (self.down, self.middle, self.up):
            for expert in weight.data:
                nn.init.xavier_normal_(expert)
        self.bias = nn.Parameter(torch.zeros(size))
        self.gate = nn.Linear(size, num_experts, bias=False) if num_experts > 1 else None

    def forward(self, first: Tensor, current: Tensor) -> Tensor:
        """x0 and x, ``(..., size)`` -> ``(..., size)``."""
        low = torch.tanh(torch.einsum("...s,esr->...er", current, self.down))
        low = torch.tanh(torch.einsum("...er,eqr->...eq", low, self.middle))
        if self.gate is not None:
            low = low * self.gate(current).softmax(-1)[..., None]  # (..., e, r)
        # the gates sum to one, so the bias needs no gate, and U is applied to all experts at once
        mixed = torch.einsum("...er,esr->...s", low, self.up)
        result: Tensor = first * (mixed + self.bias) + current
        return result


class GatedCross(nn.Module):
    """``x' = x0 ⊙ (W x + b) ⊙ σ(V x) + x`` (GDCN, Wang et al., CIKM 2023, equation 3).

    Args:
        size: width of x.
    """

    def __init__(self, *, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, size)
        self.gate = nn.Linear(size, size, bias=False)

    def forward(self, first: Tensor, current: Tensor) -> Tensor:
        """x0 and x, ``(..., size)`` -> ``(..., size)``."""
        result: Tensor = first * self.linear(current) * torch.sigmoid(self.gate(current)) + current
        return result


class CrossNetwork(nn.Module):
    """Cross layers one after the other, each with the first input.

    Args:
        layers: modules that take x0 and x.
    """

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, first: Tensor) -> Tensor:
        """``(..., size)`` -> ``(..., size)``."""
        current = first
        for layer in self.layers:
            current = layer(first, current)
        return current


class CrossAndDeep(nn.Module):
    """A cross network and a perceptron over [u; c], joined by a linear layer.

    Args:
        settings: of the perceptron.
        cross: layers of the cross network, 2D wide.
        structure: the perceptron beside the cross network (``parallel``) or on top (``stacked``).
        deep_reads_input: where parallel, the perceptron takes [u; c], not the cross network's
            output.
    """

    def __init__(
        self,
        settings: DeepSettings,
        cross: list[nn.Module],
        *,
        hidden_size: int,
        structure: Structure = "parallel",
        deep_reads_input: bool = True,
    ) -> None:
        super().__init__()
        width = FIELDS * hidden_size
        self.is_parallel = structure == "parallel"
        self.deep_reads_input = self.is_parallel and deep_reads_input
        self.cross = CrossNetwork(cross)
        self.deep = HiddenLayers(width, settings.hidden_sizes, dropout=settings.dropout)
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
