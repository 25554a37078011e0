"""Causal self-attention over packed sequences: a position attends to itself and to those before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from legos.data.ragged import Ragged

_MASK_AT_ONCE = 2**22  # entries: 16 MB


class CausalBlocks:
    """Packed sequences cut, end to end, into blocks as long as the longest sequence.

    A position's sequence begins in its own block or in the one before, so that a block attends to
    these two under a mask. Nothing is padded but the last block, nothing is sorted or gathered, and
    short sequences share a matrix product.

    Args:
        numbers: N sequences of P elements, P at least 1.
    """

    def __init__(self, numbers: Ragged) -> None:
        self.numbers = numbers
        self.longest = size = int(numbers.lengths.max())
        self.count = -(-len(numbers.values) // size)
        past = numbers.positions  # (P,) elements before in its sequence
        past = F.pad(past, (0, self.count * size - len(past)))
        self._past = past.view(self.count, size, 1)
        slots = torch.arange(2 * size, device=past.device)
        back = slots[:size, None] + size - slots  # (T, 2T) how far a query looks back
        self._back = back.where(back >= 0, size)
        self._at_once = max(1, _MASK_AT_ONCE // back.numel())
        self._only = self._mask(0) if self.count <= self._at_once else None

    def attend(self, query: Tensor, key_value: Tensor, num_heads: int) -> Tensor:
        """Queries ``(P, D)``, keys and values ``(P, 2D)`` of all heads -> ``(P, D)``."""
        attended = [
            F.scaled_dot_product_attention(queries, key, value, self._masked(begin).to(query.dtype))
            for begin, queries, key, value in self._pages(query, key_value, num_heads)
        ]
        return self._joined(attended, len(query))

    def attend_pointwise(self, query: Tensor, key_value: Tensor, bias: Tensor) -> Tensor:
        """SiLU of every score and a bias, summed without a softmax (HSTU, equation 2).

        Args:
            query: ``(P, D)`` of all heads.
            key_value: ``(P, 2D)`` keys, then values.
            bias: ``(h, L)`` what h heads add at each distance to an element before; L is at least
                the longest sequence.

        Returns:
            ``(P, D)``.
        """
        near = bias[:, self._back.clamp(max=bias.shape[1] - 1)].to(query.dtype)  # (h, T, 2T)
        attended = []
        for begin, queries, key, value in self._pages(query, key_value, len(bias)):
            weights = F.silu(queries @ key.mT + near)  # (n, h, T, 2T)
            weights = weights.masked_fill(self._masked(begin) < 0, 0.0)
            attended.append(weights @ value)
        return self._joined(attended, len(query))

    def _pages(
        self, query: Tensor, key_value: Tensor, num_heads: int
    ) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        """Some blocks at a time: the first one's number, queries, keys and values.

        Queries are ``(n, h, T, D / h)``, keys and values ``(n, h, 2T, D / h)``.
        """
        size, after = self.longest, self.count * self.longest - len(query)
        queries = rearrange(
            F.pad(query, (0, 0, 0, after)), "(n t) (h d) -> n h t d", t=size, h=num_heads
        )
        blocks = rearrange(
            F.pad(key_value, (0, 0, size, after)),
            "(n t) (two h d) -> two n h t d",
            two=2,
            t=size,
            h=num_heads,
        )  # the first one is of zeros
        for begin in range(0, self.count, self._at_once):
            end = min(begin + self._at_once, self.count)
            key, value = torch.cat([blocks[:, begin:end], blocks[:, begin + 1 : end + 1]], 3)
            yield begin, queries[begin:end], key, value

    def _joined(self, attended: Sequence[Tensor], total: int) -> Tensor:
        """Pages of ``(n, h, T, D / h)`` -> ``(P, D)``."""
        joined = attended[0] if len(attended) == 1 else torch.cat(list(attended))
        return rearrange(joined, "n h t d -> (n t) (h d)")[:total]

    def _masked(self, begin: int) -> Tensor:
        return self._mask(begin) if self._only is None else self._only

    def _mask(self, begin: int) -> Tensor:
        """What is added to the scores of some blocks: float32 ``(n, 1, T, 2T)``."""
        past = self._past[begin : begin + self._at_once]
        unseen = torch.empty(len(past), *self._back.shape, device=past.device)
        torch.gt(self._back, past, out=unseen)  # 0 or 1
        return unseen.mul_(torch.finfo(torch.float32).min)[:, None]
