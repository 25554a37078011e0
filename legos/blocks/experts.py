"""How given vectors become item or user vectors: a perceptron, or a mixture of expert projections.

Hou et al., "Towards Universal Sequence Representation Learning for Recommender Systems" (UniSRec),
KDD 2022 (arXiv:2206.05941), section 2.1.2.
"""

from __future__ import annotations

from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from legos.blocks.mlp import MLP
from legos.settings import Count, Settings

_STD = 0.02  # of the authors' projections
_LEAST_NOISE = 0.01  # of a gate while training, as in the authors' code


class ProjectionSettings(Settings):
    """How a brick projects given vectors to hidden_size."""

    added: ClassVar[frozenset[str]] = frozenset({"experts"})

    hidden_sizes: tuple[Count, ...] = ()
    """Widths of ReLU layers before the linear one to hidden_size; none: a linear projection."""
    experts: int = Field(0, ge=0)
    """Shifted projections that a gate mixes, in place of one (UniSRec, which has 8); 0: none."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.experts and self.hidden_sizes:
            raise ValueError("experts and hidden_sizes: a mixture has no hidden layers; give one")
        return self

    def projection(self, width: int, hidden_size: int, *, dropout: float) -> nn.Module:
        """From ``(N, width)`` to ``(N, hidden_size)``; ``dropout``: rate within."""
        if self.experts:
            return ExpertProjections(width, hidden_size, count=self.experts)
        return MLP(width, self.hidden_sizes, hidden_size, dropout=dropout)


class ExpertProjections(nn.Module):
    """A softmax gate mixes shifted linear projections: equations 2 to 4.

    Each expert whitens: ``(x - b) W`` with a shift b and a matrix W of its own. While training a
    gate's scores have normal noise whose deviation depends on x. Where the authors' dropout is on
    the input of each expert, here it is before all of them and the gate.

    Args:
        input_size: E.
        output_size: D.
        count: K experts.
    """

    def __init__(self, input_size: int, output_size: int, *, count: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(count, input_size))
        self.weight = nn.Parameter(torch.randn(count, output_size, input_size) * _STD)
        self.gate = nn.Parameter(torch.zeros(count, input_size))
        self.noise = nn.Parameter(torch.zeros(count, input_size))

    def forward(self, values: Tensor) -> Tensor:
        """``(N, E)`` -> ``(N, D)``."""
        scores = F.linear(values, self.gate)  # (N, K)
        if self.training:
            deviation = F.softplus(F.linear(values, self.noise)) + _LEAST_NOISE
            scores = scores + torch.randn_like(scores) * deviation
        projected = F.linear(values, self.weight.flatten(0, 1)).view(*scores.shape, -1)  # (N, K, D)
        shifts = torch.einsum("ke,kde->kd", self.shift, self.weight)
        mixed: Tensor = torch.einsum("nk,nkd->nd", scores.softmax(1), projected - shifts)
        return mixed
