"""Cross networks: every layer multiplies what it has by the first input once more."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
