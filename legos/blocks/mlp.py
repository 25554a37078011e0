"""A stack of linear layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


class MLP(nn.Sequential):
    """Linear → ReLU → dropout for every hidden size, then a linear layer to the output.

    Args:
        input_size: width of what comes in.
        hidden_sizes: widths of the hidden layers, possibly none.
        output_size: width of what comes out.
        dropout: rate after every hidden layer.
    """

    def __init__(
        self, *, input_size: int, hidden_sizes: Sequence[int], output_size: int, dropout: float
    ) -> None:
        layers: list[nn.Module] = []
        for size in hidden_sizes:
            layers += [nn.Linear(input_size, size), nn.ReLU(), nn.Dropout(dropout)]
            input_size = size
        super().__init__(*layers, nn.Linear(input_size, output_size))
