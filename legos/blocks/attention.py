"""Additive attention pooling and multi-head self-attention, each over padded and packed input."""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from einops import rearrange
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.causal import CausalBlocks
from legos.blocks.embedding import FieldEmbeddings
from legos.blocks.mlp import ActivatedLayers, Activation
from legos.blocks.packed import (
    LengthBuckets,
    PackedTokens,
    Within,
    gather,
    in_length_buckets,
    segment_softmax,
    segment_sum,
)
from legos.errors import ConfigError
from legos.settings import Count, Settings


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis of ``scores`` where ``mask``; a row without any gives zeros."""
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1)
    return weights.where(mask, 0.0)


class AdditiveAttention(nn.Module):
    """Pool a sequence by a learned query over tanh projections.

    Wu et al., "Neural News Recommendation with Multi-Head Self-Attention", EMNLP-IJCNLP 2019,
    equations 5-7 (Bahdanau-style attention with a query vector).

    Args:
        input_size: D of the vectors.
        attention_size: width of the tanh layer.
    """

    def __init__(self, input_size: int, attention_size: int) -> None:
        super().__init__()
        self.project = nn.Linear(input_size, attention_size)
        self.query = nn.Linear(attention_size, 1, bias=False)

    def scores(self, values: Tensor) -> Tensor:
        """``(..., D)`` -> ``(...)`` unnormalised attention."""
        logits: Tensor = self.query(torch.tanh(self.project(values)))
        return logits.squeeze(-1)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """``(..., S, D)`` and bool ``(..., S)`` -> ``(..., D)``; zeros where all is masked."""
        weights = masked_softmax(self.scores(values), mask)  # (..., S)
        pooled: Tensor = (weights[..., None, :] @ values).squeeze(-2)
        return pooled

    def packed(self, values: Tensor, rows: Tensor, count: int) -> Tensor:
        """``(P, D)`` vectors of ``count`` items -> ``(count, D)``; zeros for an empty item."""
        weights = segment_softmax(self.scores(values), rows, count)  # (P,)
        return segment_sum(weights[:, None] * values, rows, count)


class SelfAttentionSettings(Settings):
    """Settings that NRMS's two encoders share."""

    num_heads: int = Field(8, ge=1)
    """Heads of the self-attention; must divide hidden_size (16 heads of 16 in the paper)."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Rate after the self-attention (0.2 in the paper)."""
    attention_size: int = Field(200, ge=1)
    """Width of the additive attention's tanh layer (200 in the paper)."""
    output_projection: bool = False
    """A linear layer over the concatenated heads (not in the paper; Legommenders has one)."""


def head_width(hidden_size: int, num_heads: int) -> int:
    """Width of one of ``num_heads`` heads."""
    if hidden_size % num_heads:
        raise ConfigError(
            f"num_heads {num_heads} does not divide hidden_size {hidden_size}; "
            f"choose one of {[n for n in range(1, hidden_size + 1) if hidden_size % n == 0]}"
        )
    return hidden_size // num_heads


class MultiHeadSelfAttention(nn.Module):
    """Scaled dot-product self-attention with several heads and no positions.

    NRMS (EMNLP-IJCNLP 2019, equations 1-4) concatenates the heads; ``output_projection`` adds the
    linear layer of Vaswani et al. (2017), as the predecessor's ``nn.MultiheadAttention`` does.

    Args:
        hidden_size: D, of input and output.
        num_heads: must divide ``hidden_size``.
        output_projection: a linear layer over the concatenated heads.
        causal: a position attends to itself and to what stands before it alone.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        num_heads: int,
        output_projection: bool = False,
        causal: bool = False,
    ) -> None:
        super().__init__()
        head_width(hidden_size, num_heads)
        self.num_heads = num_heads
        self.causal = causal
        self.project = nn.Linear(hidden_size, 3 * hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size) if output_projection else nn.Identity()

    def forward(self, values: Tensor, within: Within, queries: Tensor | None = None) -> Tensor:
        """``(..., D)`` -> ``(..., D)``, attention within sequences; zeros under a mask.

        ``queries`` ``(..., D)`` are what the queries are made of, where that is not ``values``.
        """
        if isinstance(within, CausalBlocks):
            if not self.causal:
                raise ValueError("causal blocks are for causal attention")
            apart = self._project_apart(values if queries is None else queries, values)
            causal: Tensor = self.output(within.attend(*apart, self.num_heads))
            return causal
        if queries is None:
            projected = self.project(values)  # (..., 3D)
        else:
            projected = torch.cat(self._project_apart(queries, values), -1)
        if isinstance(within, LengthBuckets):
            packed: Tensor = self.output(within.run(self._attend_real, projected))
            return packed
        result: Tensor = self.output(self._attend(projected, within)) * within[..., None]
        return result

    def packed(self, tokens: PackedTokens) -> Tensor:
        """Attention within each item of packed tokens -> ``(P, D)``."""
        projected = tokens.map(self.project)
        result: Tensor = self.output(in_length_buckets(self._attend_real, projected))
        return result

    def _project_apart(self, queries: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Twice ``(..., D)`` -> queries ``(..., D)``, keys and values ``(..., 2D)``."""
        weight, bias, size = self.project.weight, self.project.bias, values.shape[-1]
        query = F.linear(queries, weight[:size], bias[:size])
        return query, F.linear(values, weight[size:], bias[size:])

    def _attend(self, projected: Tensor, mask: Tensor) -> Tensor:
        """``(B, S, 3D)`` and bool ``(B, S)`` -> ``(B, S, D)``; rows without any real one: zeros."""
        empty = ~mask.any(1, keepdim=True)  # attend to the padding there, then drop the result
        seen = _before_and_self(mask) if self.causal else mask | empty
        return self._over_heads(projected, seen) * ~empty[..., None]

    def _attend_real(self, projected: Tensor, mask: Tensor) -> Tensor:
        """The same of rows that begin with a real position; under the mask anything finite."""
        return self._over_heads(projected, _before_and_self(mask) if self.causal else mask)

    def _over_heads(self, projected: Tensor, seen: Tensor) -> Tensor:
        """``(B, S, 3D)`` -> ``(B, S, D)``; see scaled_dot_product_attention for ``seen``."""
        query, key, value = rearrange(
            projected, "b s (three h d) -> three b h s d", three=3, h=self.num_heads
        ).unbind(0)
        attended = scaled_dot_product_attention(query, key, value, seen)
        return rearrange(attended, "b h s d -> b s (h d)")


def _before_and_self(mask: Tensor) -> Tensor:
    """Which positions each position sees: bool ``(B, S)`` -> ``(B, S, S)``, itself always."""
    slots = torch.arange(mask.shape[1], device=mask.device)
    return (mask[:, None] & (slots < slots[:, None])) | (slots == slots[:, None])


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Attention of every head: three ``(B, h, S, d)`` -> ``(B, h, S, d)``.

    ``mask`` tells the keys: bool ``(B, S)`` for all queries alike, ``(B, S, S)`` for each.

    The plain products are up to twice as fast on a CPU as torch's fused kernel, at the
    short sequences and narrow heads of recommenders; elsewhere the fused kernel is.
    """
    mask = mask[:, None] if mask.dim() == 3 else mask[:, None, None]  # (B, 1, S or 1, S)
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, mask)
    batch, heads, length, width = query.shape
    bias = query.new_zeros(mask.shape).masked_fill_(~mask, torch.finfo(query.dtype).min)
    scores = torch.baddbmm(
        bias.expand(batch, heads, -1, length).flatten(0, 1),
        (query * width**-0.5).flatten(0, 1),
        key.flatten(0, 1).transpose(1, 2),
    )  # (B * h, S, S)
    return (scores.softmax(-1) @ value.flatten(0, 1)).view(batch, heads, length, width)


_INITIAL_STD = 0.02  # as in BERT


class LearnedPositions(nn.Module):
    """A learned vector for each place in a sequence.

    Args:
        count: places that have one.
        size: D.
        from_end: the last real position is place 0; otherwise the first one.
        setting: what the user of the toolkit calls ``count``.
    """

    def __init__(self, *, count: int, size: int, from_end: bool, setting: str) -> None:
        super().__init__()
        self.from_end = from_end
        self.setting = setting
        self.vectors = nn.Parameter(torch.randn(count, size) * _INITIAL_STD)

    @classmethod
    def of_fields(cls, embeddings: FieldEmbeddings, max_positions: int) -> Self:
        """Places for the tokens of all fields of an item, one field after the other.

        Raises:
            ConfigError: items may have more than ``max_positions`` tokens.
        """
        longest = sum(field.length for field in embeddings.fields.values())
        refuse_longer(longest, max_positions, setting="max_positions")
        size = embeddings.hidden_size
        return cls(count=max_positions, size=size, from_end=False, setting="max_positions")

    def forward(self, values: Tensor, within: Within) -> Tensor:
        """``(..., D)`` -> ``(..., D)`` with the positions added.

        Raises:
            ConfigError: a sequence is longer than ``count``.
        """
        most = self.vectors.shape[0]
        if not isinstance(within, Tensor):
            refuse_longer(within.longest, most, setting=self.setting)
            numbers = within.numbers
            places = numbers.to_end - 1 if self.from_end else numbers.positions  # (P,)
            return values + gather(self.vectors, places)
        length = within.shape[1]
        refuse_longer(length, most, setting=self.setting)
        if not self.from_end:
            return values + self.vectors[:length]
        places = within.sum(1, keepdim=True) - within.cumsum(1)  # (B, S) real ones that follow
        return values + gather(self.vectors, places.flatten()).view(*places.shape, -1)


def refuse_longer(length: int, limit: int, *, setting: str) -> None:
    """Raise ConfigError where a sequence has more than ``limit`` positions."""
    if length > limit:
        raise ConfigError(
            f"a sequence of {length:,} is longer than {setting} {limit:,}: set {setting} to "
            f"{length:,} or more, or let data cut it to {limit:,}"
        )


def last_real(values: Tensor, mask: Tensor) -> Tensor:
    """``(B, S, D)`` and bool ``(B, S)`` -> ``(B, D)`` at the last True; zeros without any."""
    slots = torch.arange(mask.shape[1], device=mask.device)
    last = (slots * mask).amax(1)  # (B,)
    rows = torch.arange(mask.shape[0], device=mask.device)
    return values[rows, last].where(mask.any(1, keepdim=True), 0.0)


class TargetAttentionSettings(Settings):
    attention_sizes: tuple[Count, ...] = Field((36,), min_length=1)
    """Hidden widths of the MLP that weighs an item (36 in the paper's figure 2)."""
    activation: Activation = "dice"
    """`dice` (the paper's, with running statistics), `prelu` or `relu`."""
    softmax: bool = False
    """Weights sum to one (not in the paper: they are to tell how strong an interest is)."""


class TargetAttention(nn.Module):
    """Sum of a history, every item weighted by its relevance to the candidate.

    The first layer is linear in ``[h, c, h - c, h * c]``, so all but the product is computed once
    an item and once a candidate, and the concatenation is never made.
    """

    def __init__(self, settings: TargetAttentionSettings, *, hidden_size: int) -> None:
        super().__init__()
        self.softmax = settings.softmax
        self.first = nn.Linear(4 * hidden_size, settings.attention_sizes[0])
        self.rest = ActivatedLayers(
            sizes=(*settings.attention_sizes, 1),
            activation=settings.activation,
            last_bias=not self.softmax,  # a softmax is blind to it
        )

    def forward(self, history: Tensor, candidates: Tensor, mask: Tensor) -> Tensor:
        """``(B, H, D)``, ``(B, C, D)`` and bool ``(B, H)`` -> ``(B, C, D)``; zeros for no item."""
        real = mask[:, :, None].expand(-1, -1, candidates.shape[1])  # (B, H, C)
        logits: Tensor = self.rest(self._first(history, candidates), real)[..., 0].mT  # (B, C, H)
        if self.softmax:
            return masked_softmax(logits, mask[:, None]) @ history
        return logits.where(mask[:, None], 0.0) @ history

    def _first(self, history: Tensor, candidates: Tensor) -> Tensor:
        """The first layer of every pair: ``(B, H, C, S)``."""
        batch, _, width = candidates.shape
        of_item, of_candidate, of_difference, of_product = self.first.weight.split(width, 1)
        item = F.linear(history, of_item + of_difference, self.first.bias)  # (B, H, S)
        candidate: Tensor = F.linear(candidates, of_candidate - of_difference)  # (B, C, S)
        scaled = (candidates[:, :, None] * of_product).view(batch, -1, width)  # (B, C * S, D)
        product: Tensor = history @ scaled.mT  # (B, H, C * S)
        pairs = item[:, :, None] + candidate[:, None]  # (B, H, C, S)
        return pairs + product.view_as(pairs)
