"""Additive attention pooling and multi-head self-attention, each over padded and packed input."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.buckets import in_length_buckets
from legos.blocks.packed import PackedTokens, segment_softmax, segment_sum
from legos.errors import ConfigError
from legos.settings import Settings


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
    """Width of one of ``num_heads`` heads.

    Raises:
        ConfigError: ``num_heads`` does not divide ``hidden_size``.
    """
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

    Raises:
        ConfigError: ``num_heads`` does not divide ``hidden_size``.
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

    def forward(self, values: Tensor, mask: Tensor, queries: Tensor | None = None) -> Tensor:
        """``(B, S, D)`` and bool ``(B, S)`` -> ``(B, S, D)``; zeros under the mask.

        ``queries`` ``(B, S, D)`` are what the queries are made of, where that is not ``values``.
        """
        projected = self.project(values)  # (B, S, 3D)
        if queries is not None:
            size = queries.shape[-1]
            query = F.linear(queries, self.project.weight[:size], self.project.bias[:size])
            projected = torch.cat([query, projected[..., size:]], -1)
        result: Tensor = self.output(self._attend(projected, mask)) * mask[..., None]
        return result

    def packed(self, tokens: PackedTokens) -> Tensor:
        """Attention within each item of packed tokens -> ``(P, D)``."""
        result: Tensor = self.output(in_length_buckets(self._attend, tokens.map(self.project)))
        return result

    def _attend(self, projected: Tensor, mask: Tensor) -> Tensor:
        """``(B, S, 3D)`` and bool ``(B, S)`` -> ``(B, S, D)``; rows without any real one: zeros."""
        query, key, value = rearrange(
            projected, "b s (three h d) -> three b h s d", three=3, h=self.num_heads
        ).unbind(0)
        empty = ~mask.any(1, keepdim=True)  # attend to the padding there, then drop the result
        seen = _before_and_self(mask) if self.causal else mask | empty
        attended = scaled_dot_product_attention(query, key, value, seen)
        return rearrange(attended, "b h s d -> b s (h d)") * ~empty[..., None]


def _before_and_self(mask: Tensor) -> Tensor:
    """Which positions each position sees: bool ``(B, S)`` -> ``(B, S, S)``, itself always."""
    slots = torch.arange(mask.shape[1], device=mask.device)
    return (mask[:, None] & (slots < slots[:, None])) | (slots == slots[:, None])


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Attention of every head: three ``(B, h, S, d)`` -> ``(B, h, S, d)``.

    ``mask`` tells the keys: bool ``(B, S)`` for all queries alike, ``(B, S, S)`` for each.

    On a CPU the plain products are up to twice as fast as torch's fused kernel at the short
    sequences and narrow heads of recommenders; elsewhere the fused kernel is.
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
