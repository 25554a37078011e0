"""Stacks of linear layers, and the settings of the predictors that end in one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from legos.blocks.dropout import Dropout
from legos.registry import PredictorConfig


class HiddenLayers(nn.Sequential):
    """Linear → ReLU → dropout for every size; what came in where there is none.

    Args:
        input_size: width of what comes in.
        sizes: widths of the layers, possibly none.
        dropout: rate after every layer.

    Attributes:
        output_size: width of what comes out.
    """

    def __init__(self, input_size: int, sizes: Sequence[int], *, dropout: float) -> None:
        layers: list[nn.Module] = []
        for size in sizes:
            layers += [nn.Linear(input_size, size), nn.ReLU(), Dropout(dropout)]
            input_size = size
        super().__init__(*layers)
        self.output_size = input_size


class MLP(nn.Sequential):
    """Hidden layers, then a linear layer to the output.

    Args:
        input_size: width of what comes in.
        hidden_sizes: widths of the hidden layers, possibly none.
        output_size: width of what comes out.
        dropout: rate after every hidden layer.
    """

    def __init__(
        self, input_size: int, hidden_sizes: Sequence[int], output_size: int, *, dropout: float
    ) -> None:
        hidden = HiddenLayers(input_size, hidden_sizes, dropout=dropout)
        super().__init__(*hidden, nn.Linear(hidden.output_size, output_size))


class DeepSettings(PredictorConfig):
    """Settings that all predictors with a multi-layer perceptron share."""

    hidden_sizes: tuple[PositiveInt, ...] = (256, 128)
    """Widths of the perceptron's hidden layers (Legommenders: three of 1000; the papers work on
    hundreds of fields, here there are two)."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Rate after every hidden layer (0.1 in Legommenders). No batch normalisation anywhere: a
    score must not depend on what it is computed together with."""


Activation = Literal["dice", "prelu", "relu"]

_EPSILON = 1e-8  # as in the paper
_MOMENTUM = 0.1  # the share of the newest batch in the running statistics, as nn.BatchNorm1d has


class Dice(nn.Module):
    """PReLU whose bend follows the data: a sigmoid of the standardised value is the gate.

    While training, mean and variance are those of the batch's real positions; otherwise running
    ones, so that a score does not depend on what it is computed together with.

    Args:
        size: number of features.
    """

    def __init__(self, *, size: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(size))
        self.mean: Tensor
        self.variance: Tensor
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """``(..., size)`` and bool ``(...)``, True = a real position -> ``(..., size)``."""
        mean, variance = self.mean, self.variance
        if self.training:
            mean, variance = self._observe(values, mask)
        standardised = (values - mean) * torch.rsqrt(variance + _EPSILON)
        gate = torch.sigmoid(standardised).to(values.dtype)
        return values * (gate + self.slope * (1 - gate))

    def _observe(self, values: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and variance ``(size,)`` of the real positions, also taken into the running ones."""
        if mask is None:
            mask = torch.ones(values.shape[:-1], dtype=torch.bool, device=values.device)
        wide = values.to(torch.promote_types(values.dtype, torch.float32)).flatten(0, -2)
        real = mask.flatten().to(wide.dtype)  # (P,)
        total = real.sum()
        mean = (real @ wide) / total.clamp(min=1)
        variance = (real @ (wide - mean).square()) / total.clamp(min=1)
        share = _MOMENTUM * (total > 0)  # nothing is learned from nothing
        with torch.no_grad():
            self.mean += share * (mean - self.mean)
            self.variance += share * (variance - self.variance)
        return mean, variance


class PReLU(nn.Module):
    """One learned negative slope a feature (``nn.PReLU`` wants features on the second axis).

    Args:
        size: number of features.
    """

    def __init__(self, *, size: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.full((size,), 0.25))

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """``(..., size)`` -> ``(..., size)``; the mask is for Dice."""
        return torch.where(values > 0, values, self.slope * values)


class ReLU(nn.Module):
    """ReLU that is called as the others are.

    Args:
        size: number of features (any).
    """

    def __init__(self, *, size: int) -> None:
        super().__init__()

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """``(..., size)`` -> ``(..., size)``; the mask is for Dice."""
        return torch.relu(values)


_ACTIVATIONS: dict[Activation, type[Dice] | type[PReLU] | type[ReLU]] = {
    "dice": Dice,
    "prelu": PReLU,
    "relu": ReLU,
}


class ActivatedLayers(nn.Module):
    """Activation → dropout → linear, from each size to the next; what comes in is linear already.

    Args:
        sizes: widths from the input to the output; with one alone nothing is done.
        activation: which.
        dropout: rate after every activation.
        last_bias: whether the last linear layer has a bias.
    """

    def __init__(
        self,
        *,
        sizes: Sequence[int],
        activation: Activation,
        dropout: float = 0.0,
        last_bias: bool = True,
    ) -> None:
        super().__init__()
        kind = _ACTIVATIONS[activation]
        self.activations = nn.ModuleList(kind(size=size) for size in sizes[:-1])
        self.dropout = Dropout(dropout)
        self.linears = nn.ModuleList(
            nn.Linear(size, following, bias=last_bias or place < len(sizes) - 2)
            for place, (size, following) in enumerate(pairwise(sizes))
        )

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """``(..., sizes[0])`` and bool ``(...)`` -> ``(..., sizes[-1])``."""
        for activation, linear in zip(self.activations, self.linears, strict=True):
            values = linear(self.dropout(activation(values, mask)))
        return values
