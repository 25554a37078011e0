"""Packed tokens made from padded ones, for comparing the two."""

from __future__ import annotations

import torch
from torch import Tensor

from legos.blocks.packed import PackedTokens, pack
from tests.bricks import ragged

SOME_LENGTHS = (3, 0, 1, 6, 2, 0, 5, 1)
MANY_LENGTHS = (*range(40), 0, 7, 7, 0, 23)  # more sorts than there are buckets


def padded_tokens(
    lengths: tuple[int, ...], *, size: int, vocabulary: int = 11, seed: int = 0
) -> tuple[PackedTokens, Tensor, Tensor]:
    """The same random tokens twice: packed, and as ``(N, T, D)`` float64 with mask ``(N, T)``.

    The packed vectors are a leaf ``distinct`` with a gradient; the padded ones are gathered from
    it, with noise under the mask that nothing may read.
    """
    generator = torch.Generator().manual_seed(seed)
    distinct = torch.randn(vocabulary, size, generator=generator, dtype=torch.float64)
    distinct.requires_grad_()
    rows = [
        torch.randint(vocabulary, (length,), generator=generator).tolist() for length in lengths
    ]
    column = ragged(rows)
    tokens = pack(column, distinct, column.values)
    mask = torch.arange(max(1, *lengths)) < torch.tensor(lengths)[:, None]
    padded = torch.randn(*mask.shape, size, generator=generator, dtype=torch.float64)
    return tokens, torch.where(mask[..., None], _pad(tokens.vectors, mask), padded), mask


def _pad(values: Tensor, mask: Tensor) -> Tensor:
    """``(P, D)`` -> ``(N, T, D)``, zeros under the mask."""
    padded = values.new_zeros(*mask.shape, values.shape[1])
    return padded.masked_scatter(mask[..., None].expand_as(padded), values)


def packed_gradient(output: Tensor, tokens: PackedTokens) -> Tensor:
    """Gradient of a fixed random combination of the output with respect to the tokens."""
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(output.shape, generator=generator, dtype=output.dtype)
    (gradient,) = torch.autograd.grad((output * weights).sum(), tokens.distinct)
    return gradient
