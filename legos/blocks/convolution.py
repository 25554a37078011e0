"""One-dimensional convolution over packed tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from legos.blocks.packed import PackedTokens, gather
from legos.errors import ConfigError


class PackedConvolution(nn.Module):
    """Convolution along each item's tokens with zeros beyond its ends ("same" padding).

    A tap of the kernel depends on one token alone, so every tap is computed once per distinct
    token of the batch; a position then adds up its neighbours' taps.

    Args:
        input_size: D of the token vectors.
        output_size: number of filters.
        kernel_size: odd number of tokens a filter sees.

    Raises:
        ConfigError: ``kernel_size`` is even.
    """

    def __init__(self, *, input_size: int, output_size: int, kernel_size: int) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ConfigError(f"kernel_size {kernel_size} is even; a centred window needs odd")
        self.kernel_size = kernel_size
        self.output_size = output_size
        self.weight = nn.Parameter(torch.empty(kernel_size, output_size, input_size))
        bound = (kernel_size * input_size) ** -0.5  # as nn.Conv1d starts
        nn.init.uniform_(self.weight, -bound, bound)
        self.bias = nn.Parameter(torch.zeros(output_size))

    def forward(self, tokens: PackedTokens) -> Tensor:
        """Packed tokens of width input_size -> ``(P, output_size)``."""
        taps = tokens.distinct @ self.weight.flatten(0, 1).T  # (U, kernel * output)
        taps = taps.view(-1, self.output_size)  # row u * kernel + tap
        taps = torch.cat([taps, taps.new_zeros(1, self.output_size)])  # beyond the ends
        beyond, last = taps.shape[0] - 1, tokens.index.numel() - 1
        position = torch.arange(tokens.index.numel(), device=tokens.index.device)
        start, end = tokens.offsets[tokens.rows], tokens.offsets[tokens.rows + 1]
        result = self.bias.expand(tokens.index.numel(), -1)
        for tap in range(self.kernel_size):
            neighbour = position + tap - self.kernel_size // 2
            inside = (neighbour >= start) & (neighbour < end)
            row = tokens.index[neighbour.clamp(0, max(last, 0))] * self.kernel_size + tap
            result = result + gather(taps, row.where(inside, beyond))
        return result
