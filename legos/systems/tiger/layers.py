"""Layers of T5 over packed sequences: no biases, relative positions, scores without a scale.

Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
JMLR 2020, section 2.1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from legos.blocks.dropout import Dropout
from legos.blocks.packed import LengthBuckets, gather
from legos.data.ragged import padded_aranges
from legos.systems.tiger.settings import TigerModel

_DISTANCES, _FARTHEST = 32, 128  # T5's
_PARTS = 16  # rows of similar length that are laid side by side; more save padding, fewer calls
_EPSILON = 1e-6


def linear(inputs: int, outputs: int, deviation: float) -> nn.Linear:
    """A linear layer without a bias, initialised as in T5."""
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(layer.weight, std=deviation)
    return layer


def norm(width: int) -> nn.RMSNorm:
    """T5's layer norm."""
    return nn.RMSNorm(width, eps=_EPSILON)


class RelativePositions(nn.Module):
    """Attention biases by the distance from query to key.

    Args:
        both_ways: keys behind a query have numbers of their own.
    """

    def __init__(self, *, heads: int, width: int, both_ways: bool) -> None:
        super().__init__()
        self.both_ways = both_ways
        self.table = nn.Parameter(torch.randn(_DISTANCES, heads) * width**-0.5)

    def forward(self, length: int) -> Tensor:
        """``(h, S, S)`` for queries and keys of sequences of S; -inf where none is seen."""
        places = torch.arange(length, device=self.table.device)
        distance = places - places[:, None]  # (S, S) key - query
        bias = gather(self.table, self._numbers(distance).flatten())
        bias = rearrange(bias, "(q k) h -> h q k", q=length)
        return bias if self.both_ways else bias.masked_fill(distance > 0, -torch.inf)

    def _numbers(self, distance: Tensor) -> Tensor:
        """Rows of the table: small distances each, larger ones by their logarithm."""
        count, first = _DISTANCES, torch.zeros_like(distance)
        if self.both_ways:
            count //= 2
            first = (distance > 0) * count
            distance = distance.abs()
        else:
            distance = (-distance).clamp(min=0)
        exact = count // 2
        ratio = torch.log(distance.clamp(min=1) / exact) / math.log(_FARTHEST / exact)
        far = (exact + (ratio * (count - exact)).long()).clamp(max=count - 1)
        return first + distance.where(distance < exact, far)


class FeedForward(nn.Module):
    """Norm, linear, ReLU, dropout, linear."""

    def __init__(self, own: TigerModel) -> None:
        super().__init__()
        self.norm = norm(own.width)
        self.widen = linear(own.width, own.feed_forward, own.width**-0.5)
        self.narrow = linear(own.feed_forward, own.width, own.feed_forward**-0.5)
        self.dropout = Dropout(own.dropout)

    def forward(self, values: Tensor) -> Tensor:
        """Return ``(..., D)`` plus the output of the layer."""
        hidden = self.dropout(F.relu(self.widen(self.norm(values))))
        result: Tensor = values + self.dropout(self.narrow(hidden))
        return result


class Attention(nn.Module):
    """Norm and projections of an attention; keys and values may come from another sequence."""

    def __init__(self, own: TigerModel) -> None:
        super().__init__()
        inner = own.heads * own.head_width
        self.heads, self.norm = own.heads, norm(own.width)
        self.query = linear(own.width, inner, (own.width * own.head_width) ** -0.5)
        self.key_value = linear(own.width, 2 * inner, own.width**-0.5)
        self.output = linear(inner, own.width, inner**-0.5)
        self.dropout = Dropout(own.dropout)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """``(n, h, T, d)`` over ``(n, h, S, d)``, bias ``(..., T, S)`` -> ``(n, h, T, d)``."""
        scores = query @ key.mT + bias
        exact = torch.promote_types(scores.dtype, torch.float)
        weights = torch.softmax(scores, -1, dtype=exact).to(value.dtype)
        result: Tensor = self.dropout(weights) @ value
        return result

    def added(self, values: Tensor, attended: Tensor) -> Tensor:
        """Return ``(..., D)`` plus the projected attention ``(..., h d)``."""
        result: Tensor = values + self.dropout(self.output(attended))
        return result


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward part of packed sequences."""

    def __init__(self, own: TigerModel) -> None:
        super().__init__()
        self.own, self.feed_forward = Attention(own), FeedForward(own)

    def forward(self, values: Tensor, within: LengthBuckets, bias: Tensor) -> Tensor:
        """``(P, D)`` -> ``(P, D)``; bias ``(h, S, S)`` of the longest sequence."""
        own = self.own

        def attend(packed: Tensor, mask: Tensor) -> Tensor:
            query, key, value = rearrange(
                packed, "n s (three h d) -> three n h s d", three=3, h=own.heads
            )
            length = mask.shape[1]
            hidden = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -torch.inf)
            seen = bias[:, :length, :length] + hidden[:, None, None]
            return rearrange(own.attend(query, key, value, seen), "n h s d -> n s (h d)")

        normed = own.norm(values)
        both = torch.cat([own.query(normed), own.key_value(normed)], 1)
        return self.feed_forward(own.added(values, within.run(attend, both)))  # type: ignore[no-any-return]


class Part(NamedTuple):
    """Readers of histories of similar length.

    Attributes:
        rows: ``(n,)`` int64 numbers of the readers.
        places: ``(n, S)`` int64 of the packed states that each sees.
        hidden: ``(n, 1, 1, S)`` what is added to scores: 0, or -inf where none is.
    """

    rows: Tensor
    places: Tensor
    hidden: Tensor


class Keys(NamedTuple):
    """Keys and values ``(n, h, S, d)`` of a part for one layer."""

    key: Tensor
    value: Tensor


class Memory:
    """Encoded histories, and the part of them that each of R readers sees.

    Args:
        states: ``(P, D)``.
        starts: ``(R,)`` int64 first state of each reader.
        lengths: ``(R,)`` int64 how many it sees, at least one.
        most: parts; 1: in the order of the readers.
    """

    def __init__(self, states: Tensor, starts: Tensor, lengths: Tensor, most: int = _PARTS) -> None:
        self.states, self.starts, self.lengths = states, starts, lengths
        self.count = len(starts)
        order = lengths.argsort(stable=True)
        if most == 1:
            order = torch.arange(len(starts), device=starts.device)
        self.parts = []
        for rows in order.chunk(most):
            width = int(lengths[rows].max())
            places, mask = padded_aranges(starts[rows], lengths[rows], width)
            hidden = torch.zeros(places.shape, dtype=states.dtype, device=states.device)
            hidden = hidden.masked_fill(~mask, -torch.inf)[:, None, None]
            self.parts.append(Part(rows, places.where(mask, starts[rows][:, None]), hidden))
        self._back = torch.empty_like(order)
        self._back[order] = torch.arange(len(order), device=order.device)

    def keys(self, attention: Attention) -> list[Keys]:
        """Keys and values of every part for a layer."""
        packed = attention.key_value(self.states)  # (P, 2 h d)
        found = []
        for part in self.parts:
            values = gather(packed, part.places.flatten()).view(*part.places.shape, -1)
            key, value = rearrange(values, "n s (two h d) -> two n h s d", two=2, h=attention.heads)
            found.append(Keys(key, value))
        return found

    def attend(self, attention: Attention, query: Tensor, keys: list[Keys]) -> Tensor:
        """Queries ``(R, T, h d)`` -> ``(R, T, h d)``."""
        found = []
        for part, own in zip(self.parts, keys, strict=True):
            queries = rearrange(
                query.index_select(0, part.rows), "n t (h d) -> n h t d", h=attention.heads
            )
            attended = attention.attend(queries, own.key, own.value, part.hidden)
            found.append(rearrange(attended, "n h t d -> n t (h d)"))
        return torch.cat(found).index_select(0, self._back)


class DecoderLayer(nn.Module):
    """Self-attention over the written codes, attention to the history, feed-forward part."""

    def __init__(self, own: TigerModel) -> None:
        super().__init__()
        self.own, self.read = Attention(own), Attention(own)
        self.feed_forward = FeedForward(own)

    def forward(self, values: Tensor, memory: Memory, bias: Tensor) -> Tensor:
        """C tuples of T tokens for each of R readers, ``(R, C, T, D)``; bias ``(h, T, T)``."""
        own, (rows, count, length, _) = self.own, values.shape
        normed = own.norm(values).flatten(0, 1)  # (R * C, T, D)
        query = rearrange(own.query(normed), "n t (h d) -> n h t d", h=own.heads)
        key, value = rearrange(
            own.key_value(normed), "n t (two h d) -> two n h t d", two=2, h=own.heads
        )
        attended = rearrange(
            own.attend(query, key, value, bias), "(r c) h t d -> r c t (h d)", r=rows
        )
        values = own.added(values, attended)
        query = self.read.query(self.read.norm(values)).flatten(1, 2)  # (R, C * T, h d)
        attended = memory.attend(self.read, query, memory.keys(self.read))
        values = self.read.added(values, attended.view(rows, count, length, -1))
        return self.feed_forward(values)  # type: ignore[no-any-return]
