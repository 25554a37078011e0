"""Fastformer: attention in linear time by global vectors, over padded and packed input.

Wu, Wu, Qi, Huang and Xie, "Fastformer: Additive Attention Can Be All You Need", 2021
(arXiv:2108.09084), section 3.1. Value and query share one projection and, by default, all layers
share their parameters, as the paper says. Not said there and chosen here: the linear layer after
the attention goes over the concatenated heads, and residual sum, layer normalisation and
feed-forward part are those of a Transformer with normalisation after each sum. The released code
weighs a position in each head by the vector of all heads, has one linear layer more before the
first sum and does not share layers.
"""

from __future__ import annotations

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.attention import LearnedPositions, head_width, masked_softmax
from legos.blocks.dropout import Dropout
from legos.blocks.packed import LengthBuckets
from legos.blocks.transformer import FeedForward, SequenceStack
from legos.settings import Settings


class FastformerSettings(Settings):
    """Settings that the encoders with Fastformer layers share."""

    num_layers: int = Field(1, ge=1)
    """Fastformer layers (1 in Legommenders' configuration, 2 in the paper)."""
    num_heads: int = Field(16, ge=1)
    """Heads of the additive attention; must divide hidden_size (16 in the paper)."""
    feed_forward_size: int | None = Field(None, ge=1)
    """Width of the feed-forward part's hidden layer; null: 4 * hidden_size."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Rate on the input, on the output of each part and inside the feed-forward part (0.2 in the
    paper, 0.1 in Legommenders)."""
    share_layers: bool = True
    """All layers have the same parameters, as in the paper; matters with several layers."""
    positions: bool = True
    """Learned positions; without them the order does not matter."""
    attention_size: int = Field(200, ge=1)
    """Width of the additive attention's tanh layer that pools the output."""


class FastformerAttention(nn.Module):
    """Every position meets all others through one global query and one global key.

    Args:
        num_heads: must divide ``hidden_size``.
    """

    def __init__(self, *, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        width = head_width(hidden_size, num_heads)
        self.num_heads = num_heads
        self.project = nn.Linear(hidden_size, 2 * hidden_size)  # query, which is the value, and key
        self.query_weight = nn.Parameter(torch.randn(num_heads, width) * 0.1)
        self.key_weight = nn.Parameter(torch.randn(num_heads, width) * 0.1)
        self.transform = nn.Linear(hidden_size, hidden_size)

    def forward(self, values: Tensor, within: Tensor | LengthBuckets) -> Tensor:
        """``(..., D)`` -> ``(..., D)``; anything finite under a mask."""
        projected = self.project(values)  # (..., 2D)
        if isinstance(within, LengthBuckets):
            interaction = within.run(self._interact, projected)
        else:
            interaction = self._interact(projected, within)
        result: Tensor = self.transform(interaction) + projected[..., : values.shape[-1]]
        return result

    def _interact(self, projected: Tensor, mask: Tensor) -> Tensor:
        """u of every position: ``(B, S, 2D)`` and bool ``(B, S)`` -> ``(B, S, D)``."""
        query, key = rearrange(
            projected, "b s (two h d) -> two b h s d", two=2, h=self.num_heads
        ).unbind(0)
        global_query = _pool(query, self.query_weight, mask)  # (B, h, 1, d), equations 3 and 4
        in_context = global_query * key  # p_i
        global_key = _pool(in_context, self.key_weight, mask)  # equations 5 and 6
        return rearrange(global_key * query, "b h s d -> b s (h d)")


def _pool(values: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
    """Additive attention of each head: ``(B, h, S, d)``, ``(h, d)`` -> ``(B, h, 1, d)``."""
    logits = (values @ weight[..., None]).squeeze(-1) * weight.shape[1] ** -0.5  # (B, h, S)
    return masked_softmax(logits, mask[:, None])[:, :, None] @ values


class FastformerLayer(nn.Module):
    """Fastformer's attention and a feed-forward part, each with residual sum and normalisation.

    Args:
        settings: of the stack.
    """

    def __init__(self, settings: FastformerSettings, *, hidden_size: int) -> None:
        super().__init__()
        self.attention = FastformerAttention(hidden_size=hidden_size, num_heads=settings.num_heads)
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.feed_forward = FeedForward(
            hidden_size=hidden_size,
            width=settings.feed_forward_size or 4 * hidden_size,
            dropout=settings.dropout,
            activation="gelu",
        )
        self.feed_forward_norm = nn.LayerNorm(hidden_size)
        self.dropout = Dropout(settings.dropout)

    def forward(self, values: Tensor, within: Tensor | LengthBuckets) -> Tensor:
        """``(..., D)`` -> ``(..., D)``; anything finite under a mask."""
        values = self.attention_norm(values + self.dropout(self.attention(values, within)))
        result: Tensor = self.feed_forward_norm(values + self.dropout(self.feed_forward(values)))
        return result


class Fastformer(SequenceStack):
    """Learned positions and a stack of Fastformer layers.

    Args:
        settings: all but ``attention_size`` and ``positions`` is read.
        positions: added to the input; None: the order does not matter.
    """

    def __init__(
        self,
        settings: FastformerSettings,
        *,
        hidden_size: int,
        positions: LearnedPositions | None = None,
    ) -> None:
        layers, times = settings.num_layers, 1
        if settings.share_layers:
            layers, times = times, layers
        super().__init__(
            [FastformerLayer(settings, hidden_size=hidden_size) for _ in range(layers)],
            dropout=settings.dropout,
            positions=positions,
            times=times,
        )
