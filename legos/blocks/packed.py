"""Packed tokens: the tokens of many items end to end, without padding.

Vectors are held once per *distinct* token of the batch. What depends on a token alone (a
projection, a convolution tap, query/key/value) is computed on the distinct tokens and gathered.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import accumulate
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn

from legos.blocks.causal import CausalBlocks
from legos.data.batch import BatchUsers
from legos.data.items import ItemBatch
from legos.data.ragged import Ragged, from_lengths, join_rows, padded_aranges
from legos.errors import ConfigError


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


@runtime_checkable
class Penalised(Protocol):
    """A user encoder that adds a term to the loss."""

    def penalty(self, user: Tensor) -> Tensor:
        """The term of every row ``(B,)``, from what ``forward`` gave."""


@runtime_checkable
class ReadsNeighbours(Protocol):
    """An item encoder to which an item is also what other items say.

    All items are encoded at a time by these two, without reading any of them twice.
    """

    def alone(self, items: ItemBatch) -> Tensor:
        """What each item says by itself, ``(N, E)``."""

    def joined(self, alone: Tensor) -> Tensor:
        """That of all items ``(N, E)`` -> their vectors ``(N, D)``."""


@runtime_checkable
class ReadsPrefixes(Protocol):
    """A user encoder that gives the user after every item of a history in one reading."""

    def states(self, history: Tensor, mask: Tensor) -> Tensor:
        """``(S, H, D)`` and bool ``(S, H)`` -> ``(P, D)``, P real items, sequence after sequence.

        Each is what ``forward`` gives of the history up to there.
        """


@runtime_checkable
class FillsBlanks(Protocol):
    """A user encoder that gives the items at any places of a sequence, from all other places."""

    def fill(self, history: Tensor, mask: Tensor, blanks: Tensor) -> Tensor:
        """``(S, H, D)``, bool ``(S, H)`` and bool ``(S, H)`` -> ``(B, D)``, B blanks, row by row.

        What the history holds at a blank is not read. ``forward`` gives the same of a blank at the
        end.
        """


def encode_history(
    user_encoder: nn.Module, history: Tensor, mask: Tensor, users: BatchUsers
) -> Tensor:
    """Call a user encoder, with the users where its ``forward`` asks for them."""
    kind: Any = type(user_encoder)
    if _asks_for_users(kind):
        user: Tensor = user_encoder(history, mask, users)
    else:
        user = user_encoder(history, mask)
    return user


@cache
def _asks_for_users(kind: Any) -> bool:
    return "users" in inspect.signature(kind.forward).parameters


class PackedConvolution(nn.Module):
    """Convolution along each item's tokens with zeros beyond its ends ("same" padding).

    A tap of the kernel depends on one token alone, so every tap is computed once per distinct
    token of the batch; a position then adds up its neighbours' taps.

    Args:
        input_size: D of the token vectors.
        output_size: number of filters.
        kernel_size: odd number of tokens a filter sees.
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


MOST_BUCKETS = 16  # more buckets save padding, fewer save calls; 16 was fastest on titles


class LengthBuckets:
    """Packed sequences of similar length laid side by side, for what reads padded ones.

    Args:
        numbers: N sequences of P elements; those without any are left out.
        most: buckets.
    """

    def __init__(self, numbers: Ragged, most: int = MOST_BUCKETS) -> None:
        self.numbers = numbers
        buckets = _buckets(numbers, most)
        self._places = torch.cat([places.reshape(-1) for places, _ in buckets])  # (M,), M >= P
        self._masks = [mask for _, mask in buckets]
        kept = torch.cat([mask.reshape(-1) for mask in self._masks]).nonzero()[:, 0]  # (P,)
        self._back = torch.empty_like(kept)  # (P,) where an element lies among the padded ones
        self._back[self._places[kept]] = kept

    @property
    def longest(self) -> int:
        """Elements of the longest sequence, at least 1."""
        return max(mask.shape[1] for mask in self._masks)

    def run(
        self,
        function: Callable[[Tensor, Tensor], Tensor],
        values: Tensor,
        index: Tensor | None = None,
    ) -> Tensor:
        """Call a function on every bucket.

        Args:
            function: ``(n, S, D)`` and bool ``(n, S)`` -> ``(n, S, E)``; a row is independent of
                the others and of what stands under the mask.
            values: ``(P, D)``, or ``(U, D)`` with an index.
            index: ``(P,)`` int64 row of ``values`` at each position.

        Returns:
            ``(P, E)``.
        """
        padded = gather(values, self._places if index is None else index[self._places])  # (M, D)
        outputs = []
        for part, mask in zip(
            padded.split([mask.numel() for mask in self._masks]), self._masks, strict=True
        ):
            outputs.append(function(part.view(*mask.shape, part.shape[1]), mask).flatten(0, 1))
        return gather(torch.cat(outputs), self._back)


Within: TypeAlias = Tensor | LengthBuckets | CausalBlocks
"""How sequences lie: padded under a mask, ``(B, S, D)`` and bool ``(B, S)``, or packed, ``(P, D)``,
in buckets, or in blocks for causal attention."""


def in_length_buckets(
    function: Callable[[Tensor, Tensor], Tensor], tokens: PackedTokens, most: int = MOST_BUCKETS
) -> Tensor:
    """Run what reads padded sequences over P packed tokens: ``(P, E)``; see LengthBuckets."""
    return LengthBuckets(tokens.numbers, most).run(function, tokens.distinct, tokens.index)


def _buckets(tokens: Ragged, most: int) -> list[tuple[Tensor, Tensor]]:
    """Group items of similar length.

    Returns:
        per bucket the positions ``(n, S)`` int64 of its items' tokens and their mask ``(n, S)``;
        items without tokens are in no bucket, and without any token there is one bucket of none.
    """
    lengths, order = tokens.lengths.sort(stable=True)
    lengths, order = lengths[lengths > 0], order[lengths > 0]
    if not order.numel():
        nothing = order.new_zeros(0, 1)
        return [(nothing, nothing.bool())]
    buckets = []
    for items, sizes in zip(order.chunk(most), lengths.chunk(most), strict=True):
        starts = tokens.offsets[items]
        positions, mask = padded_aranges(starts, sizes, int(sizes[-1]))
        buckets.append((positions.where(mask, starts[:, None]), mask))
    return buckets
