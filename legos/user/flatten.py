"""The whole history as one sequence of words: every item's tokens, item after item.

The flatten models of Legommenders (`FlattenTransformer`, `FlattenFastformer`); Fastformer (Wu et
al., arXiv:2108.09084) is their second encoder. Nothing is pooled an item, so that a word of one
title can attend to a word of another. An item's tokens are those of its text fields in the order
of the data YAML, then each category as one token, then a learned separator. Of a longer history the
newest `max_tokens` tokens stay; of the oldest item left, that may be its last words alone.

What differs: theirs crashes as shipped (the user's inputs never reach it), so nothing can be
compared; tokens have the vectors of the item encoder, which is then trained through both.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.attention import AdditiveAttention, MultiHeadSelfAttention
from legos.blocks.embedding import FieldEmbeddings
from legos.blocks.packed import PackedTokens, concatenate, gather
from legos.data.items import ItemBatch
from legos.data.ragged import Ragged
from legos.data.readers import Readers
from legos.errors import ConfigError
from legos.registry import UserEncoderConfig, user_encoders


class FlattenConfig(UserEncoderConfig):
    """Settings of the flatten user encoder."""

    name: Literal["flatten"] = "flatten"
    encoder: Literal["self_attention"] = "self_attention"
    """What relates the tokens to each other."""
    num_heads: int = Field(8, ge=1)
    """Heads of the encoder; must divide hidden_size."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Rate of the encoder (0.1 in Legommenders)."""
    attention_size: int = Field(200, ge=1)
    """Width of the additive attention's tanh layer."""
    separator: bool = True
    """A learned vector after each item."""
    max_tokens: int = Field(512, ge=1)
    """Newest tokens that stay of a history; memory and time of most encoders grow by its square."""


@user_encoders.register(FlattenConfig)
class FlattenUser(nn.Module):
    """Encode all tokens of a history, pool them by additive attention.

    Args:
        embeddings: vectors of every item field, the same module that the item encoder reads.
        hidden_size: D, of the item vectors.
        encoder: what relates the tokens.
        num_heads: its heads.
        dropout: its rate.
        attention_size: width of the additive attention.
        separator: a learned vector after each item.
        max_tokens: newest tokens that stay.

    Raises:
        ConfigError: token vectors and item vectors have different widths.
    """

    order_aware = True

    def __init__(
        self,
        *,
        embeddings: FieldEmbeddings,
        hidden_size: int,
        encoder: Literal["self_attention"],
        num_heads: int,
        dropout: float,
        attention_size: int,
        separator: bool,
        max_tokens: int,
    ) -> None:
        super().__init__()
        if embeddings.hidden_size != hidden_size:
            raise ConfigError(
                f"token vectors have {embeddings.hidden_size} numbers, the item encoder's vectors "
                f"{hidden_size}; choose an item encoder that gives {embeddings.hidden_size}"
            )
        self.embeddings = embeddings
        self.max_tokens = max_tokens
        self.separator = nn.Parameter(torch.randn(hidden_size) * 0.1) if separator else None
        self.positions = nn.Parameter(torch.randn(max_tokens, hidden_size) * 0.02)
        self.encoder = MultiHeadSelfAttention(hidden_size=hidden_size, num_heads=num_heads)
        self.dropout = nn.Dropout(dropout)
        self.attention = AdditiveAttention(input_size=hidden_size, attention_size=attention_size)

    def forward(self, history: Tensor, mask: Tensor, readers: Readers) -> Tensor:
        """Bool ``(B, H)`` and readers -> ``(B, D)``; zeros for a history without tokens."""
        tokens, real = self.sequence(mask, readers)  # (B, S, D), (B, S)
        tokens = self.dropout(tokens + self.positions[: tokens.shape[1]])
        user: Tensor = self.attention(self.encoder(tokens, real), real)
        return user

    def sequence(self, mask: Tensor, readers: Readers) -> tuple[Tensor, Tensor]:
        """The newest tokens of each history, padded: ``(B, S, D)`` and bool ``(B, S)``."""
        items = _at(readers.items, readers.history[mask])  # M items, history after history
        parts = [self.embeddings.tokens(items)]
        if self.separator is not None:
            parts.append(_one_for_all(self.separator, len(items)))
        tokens = concatenate(parts)
        offsets = torch.zeros(len(mask) + 1, dtype=torch.int64, device=mask.device)
        torch.cumsum(mask.sum(1), 0, out=offsets[1:])  # where a history's items start
        histories = Ragged(tokens.index + 1, tokens.offsets[offsets])  # 0 is for the padding
        rows = torch.arange(len(mask), device=mask.device)
        index, real = histories.padded_tail(rows, self.max_tokens)  # (B, S)
        nothing = tokens.distinct.new_zeros(1, tokens.distinct.shape[1])
        vectors = torch.cat([nothing, tokens.distinct])
        return gather(vectors, index.flatten()).view(*index.shape, vectors.shape[1]), real


def _at(items: ItemBatch, positions: Tensor) -> ItemBatch:
    """The items at ``(M,)`` positions of a batch."""
    return ItemBatch(
        ids=items.ids[positions],
        texts={name: tokens.select(positions) for name, tokens in items.texts.items()},
        categories={name: values[positions] for name, values in items.categories.items()},
    )


def _one_for_all(vector: Tensor, count: int) -> PackedTokens:
    """See a vector ``(D,)`` as the only token of each of ``count`` items."""
    rows = torch.arange(count, device=vector.device)
    offsets = torch.arange(count + 1, device=vector.device)
    return PackedTokens(vector[None], torch.zeros_like(rows), offsets, rows)
