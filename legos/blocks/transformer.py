"""A Transformer encoder over padded and packed input.

Vaswani et al., "Attention Is All You Need", NIPS 2017 (arXiv:1706.03762), section 3; with ``gelu``
a layer is BERT's (Devlin et al., NAACL 2019), with ``norm`` ``pre`` the normalisation stands before
each part and once more at the end (Xiong et al., "On Layer Normalization in the Transformer
Architecture", ICML 2020). Dropout is on the output of each part, as in the first of these papers;
BERT drops attention weights, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.attention import LearnedPositions, MultiHeadSelfAttention
from legos.blocks.dropout import Dropout
from legos.blocks.packed import LengthBuckets, PackedTokens, Within
from legos.settings import Settings

Activation = Literal["gelu", "relu", "leaky_relu"]
Norm = Literal["post", "pre"]

_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
}


class TransformerSettings(Settings):
    """Settings that the encoders with Transformer layers share."""

    num_layers: int = Field(3, ge=1)
    """Transformer layers (3 in Legommenders' item encoder)."""
    num_heads: int = Field(8, ge=1)
    """Heads of the self-attention; must divide hidden_size."""
    feed_forward_size: int | None = Field(None, ge=1)
    """Width of the feed-forward part's hidden layer; null: 4 * hidden_size."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Rate on the input, on the output of each part and inside the feed-forward part."""
    activation: Activation = "gelu"
    """Of the feed-forward part."""
    norm: Norm = "post"
    """Layer normalisation after each residual sum (`post`: Vaswani et al., BERT) or before each
    part (`pre`: trains more steadily where there are many layers)."""
    attention_size: int = Field(200, ge=1)
    """Width of the additive attention's tanh layer."""


class FeedForward(nn.Module):
    """Linear → activation → dropout → linear.

    Args:
        hidden_size: D, of input and output.
        width: of the hidden layer.
        dropout: rate on the hidden layer.
        activation: of the hidden layer.
    """

    def __init__(
        self, *, hidden_size: int, width: int, dropout: float, activation: Activation
    ) -> None:
        super().__init__()
        self.widen = nn.Linear(hidden_size, width)
        self.activation = _ACTIVATIONS[activation]
        self.dropout = Dropout(dropout)
        self.narrow = nn.Linear(width, hidden_size)

    def forward(self, values: Tensor) -> Tensor:
        """``(..., D)`` -> ``(..., D)``."""
        result: Tensor = self.narrow(self.dropout(self.activation(self.widen(values))))
        return result


class TransformerLayer(nn.Module):
    """Self-attention and feed-forward part, each with residual sum and layer normalisation.

    Args:
        settings: of the stack.
        causal: a position attends to itself and to what stands before it alone.
        output_projection: a linear layer over the concatenated heads.
    """

    def __init__(
        self,
        settings: TransformerSettings,
        *,
        hidden_size: int,
        causal: bool,
        output_projection: bool,
    ) -> None:
        super().__init__()
        self.norm = settings.norm
        self.self_attention = MultiHeadSelfAttention(
            hidden_size=hidden_size,
            num_heads=settings.num_heads,
            output_projection=output_projection,
            causal=causal,
        )
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.feed_forward = FeedForward(
            hidden_size=hidden_size,
            width=settings.feed_forward_size or 4 * hidden_size,
            dropout=settings.dropout,
            activation=settings.activation,
        )
        self.feed_forward_norm = nn.LayerNorm(hidden_size)
        self.dropout = Dropout(settings.dropout)

    def forward(self, values: Tensor, within: Within) -> Tensor:
        """``(..., D)`` -> ``(..., D)``; anything finite under a mask."""
        if self.norm == "pre":
            attended = self.self_attention(self.attention_norm(values), within)
            values = values + self.dropout(attended)
            fed = self.feed_forward(self.feed_forward_norm(values))
            result: Tensor = values + self.dropout(fed)
            return result
        values = self.attention_norm(values + self.dropout(self.self_attention(values, within)))
        result = self.feed_forward_norm(values + self.dropout(self.feed_forward(values)))
        return result


class SequenceStack(nn.Module):
    """Learned positions and dropout, then layers one after the other, over sequences.

    Args:
        layers: ``(..., D)`` and how the sequences lie -> ``(..., D)`` each.
        dropout: rate on the input.
        positions: added to the input; None: the order matters to the layers alone, if at all.
        final_norm: of the output of the last layer; None: there is none.
        times: how often the layers are gone through.
    """

    def __init__(
        self,
        layers: Iterable[nn.Module],
        *,
        dropout: float,
        positions: LearnedPositions | None,
        final_norm: nn.Module | None = None,
        times: int = 1,
    ) -> None:
        super().__init__()
        self.positions = positions
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(layers)
        self.final_norm = final_norm or nn.Identity()
        self.times = times

    def forward(self, values: Tensor, within: Within) -> Tensor:
        """``(..., D)`` -> ``(..., D)``; zeros under a mask.

        Raises:
            ConfigError: a sequence is longer than there are positions.
        """
        real = within[..., None] if isinstance(within, Tensor) else None
        if real is not None:
            values = values.where(real, 0.0)
        if self.positions is not None:
            values = self.positions(values, within)
        values = self.dropout(values)
        for layer in list(self.layers) * self.times:
            values = layer(values, within)
        result: Tensor = self.final_norm(values)
        return result if real is None else result.where(real, 0.0)

    def packed(self, tokens: PackedTokens) -> Tensor:
        """Each item of packed tokens is a sequence -> ``(P, D)``."""
        result: Tensor = self(tokens.vectors, LengthBuckets(tokens.numbers))
        return result


class Transformer(SequenceStack):
    """Learned positions and a stack of Transformer layers.

    Args:
        settings: all but ``attention_size`` is read.
        positions: added to the input; None: the order does not matter unless ``causal``.
        causal: a position sees itself and what stands before it alone.
        output_projection: a linear layer over the concatenated heads.
        final_norm: normalise the output of the last layer where ``norm`` is ``pre``.
    """

    def __init__(
        self,
        settings: TransformerSettings,
        *,
        hidden_size: int,
        positions: LearnedPositions | None = None,
        causal: bool = False,
        output_projection: bool = True,
        final_norm: bool = True,
    ) -> None:
        last = settings.norm == "pre" and final_norm
        super().__init__(
            [
                TransformerLayer(
                    settings,
                    hidden_size=hidden_size,
                    causal=causal,
                    output_projection=output_projection,
                )
                for _ in range(settings.num_layers)
            ],
            dropout=settings.dropout,
            positions=positions,
            final_norm=nn.LayerNorm(hidden_size) if last else None,
        )
