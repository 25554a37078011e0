"""Packed tokens: the tokens of many items end to end, without padding.

Vectors are held once per *distinct* token of the batch. What depends on a token alone (a
projection, a convolution tap, query/key/value) is computed on the distinct tokens and gathered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from legos.data.ragged import Ragged, from_lengths, join_rows


@dataclass(frozen=True)
class PackedTokens:
    """The tokens of N items; P tokens in all, U of them distinct.

    Attributes:
        distinct: ``(U, D)`` one vector a distinct token.
        numbers: N rows, at each position the row of ``distinct``.
    """

    distinct: Tensor
    numbers: Ragged

    @property
    def index(self) -> Tensor:
        """``(P,)`` int64 row of ``distinct`` at each position."""
        return self.numbers.values

    @property
    def offsets(self) -> Tensor:
        """``(N + 1,)`` int64; item i owns positions ``offsets[i]:offsets[i + 1]``."""
        return self.numbers.offsets

    @cached_property
    def rows(self) -> Tensor:
        """``(P,)`` int64 item of each position."""
        return self.numbers.rows

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.numbers)

    @property
    def vectors(self) -> Tensor:
        """``(P, D)`` the vector at each position."""
        return gather(self.distinct, self.index)

    def map(self, function: Callable[[Tensor], Tensor]) -> PackedTokens:
        """Apply what looks at one token at a time; it runs on the distinct tokens only."""
        return replace(self, distinct=function(self.distinct))


def gather(values: Tensor, index: Tensor) -> Tensor:
    """Rows of a matrix; its gradient is an ``index_add``, far cheaper than that of ``[]``."""
    return values.index_select(0, index)


def concatenate(parts: Sequence[PackedTokens]) -> PackedTokens:
    """Join the token lists of several fields into one list an item, in the order of ``parts``."""
    if len(parts) == 1:
        return parts[0]
    before = accumulate([len(part.distinct) for part in parts], initial=0)
    shifted = [
        Ragged(part.index + seen, part.offsets) for part, seen in zip(parts, before, strict=False)
    ]
    return PackedTokens(torch.cat([part.distinct for part in parts]), join_rows(shifted))


def without_padding(values: Tensor, mask: Tensor) -> PackedTokens:
    """See ``(N, S, D)`` padded vectors, bool ``(N, S)`` where they are real, as packed tokens."""
    places = mask.reshape(-1).nonzero()[:, 0]  # (P,)
    index = torch.arange(len(places), device=mask.device)
    return PackedTokens(gather(values.flatten(0, 1), places), from_lengths(index, mask.sum(1)))


def last_of_each(values: Tensor, offsets: Tensor) -> Tensor:
    """``(P, D)`` of N items, ``(N + 1,)`` offsets -> ``(N, D)`` at the last of each, else zeros.

    P is at least 1.
    """
    last = gather(values, (offsets[1:] - 1).clamp(min=0))
    return last.where(offsets.diff()[:, None] > 0, 0.0)


def one_token_each(vectors: Tensor) -> PackedTokens:
    """See ``(N, D)`` vectors as N items of one token."""
    count = torch.arange(len(vectors) + 1, device=vectors.device)
    return PackedTokens(vectors, Ragged(count[:-1], count))


def segment_sum(values: Tensor, rows: Tensor, count: int) -> Tensor:
    """Sum ``(P, ...)`` by the item each position belongs to: ``(count, ...)``."""
    return values.new_zeros(count, *values.shape[1:]).index_add(0, rows, values)


def segment_mean(values: Tensor, rows: Tensor, offsets: Tensor) -> Tensor:
    """Mean of ``(P, D)`` by item: ``(N, D)``; zeros for an item without tokens."""
    lengths = offsets.diff().clamp(min=1)[:, None]
    return segment_sum(values, rows, offsets.numel() - 1) / lengths.to(values.dtype)


def segment_max(values: Tensor, rows: Tensor, offsets: Tensor) -> Tensor:
    """Maximum of ``(P, D)`` by item: ``(N, D)``; zeros for an item without tokens."""
    start = values.new_zeros(offsets.numel() - 1, values.shape[1])
    index = rows[:, None].expand_as(values)
    return start.scatter_reduce(0, index, values, "amax", include_self=False)


def segment_softmax(scores: Tensor, rows: Tensor, count: int) -> Tensor:
    """Softmax of ``(P,)`` scores within each item: ``(P,)``, shifted by the item's maximum."""
    lowest = torch.finfo(scores.dtype).min
    peak = scores.new_full((count,), lowest).scatter_reduce(0, rows, scores.detach(), "amax")
    weights = (scores - peak.index_select(0, rows)).exp()
    total = segment_sum(weights, rows, count)
    return weights / total.index_select(0, rows)


def pack(tokens: Ragged, distinct: Tensor, index: Tensor) -> PackedTokens:
    """Attach vectors to a list column: ``tokens.values[p]`` has vector ``distinct[index[p]]``."""
    return PackedTokens(distinct, Ragged(index, tokens.offsets))
