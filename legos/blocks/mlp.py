"""Stacks of linear layers, and the settings of the predictors that end in one."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, PositiveInt
from torch import nn

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
            layers += [nn.Linear(input_size, size), nn.ReLU(), nn.Dropout(dropout)]
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
