"""All words of the history as one sequence, read by a Transformer or a Fastformer.

The flatten models of Legommenders (``FlattenTransformer``, ``FlattenFastformer``), which are in no
paper and crash as shipped, because the user's inputs never reach them. Items are not pooled first,
so a word of one title can attend to a word of another. An item's tokens are those of its text
fields in the order of the data YAML, then each category as one token, then a learned separator. Of
a longer history the newest ``max_tokens`` tokens stay; of the oldest item left, these may be its
last words alone.

Chosen here: positions count from the newest token, so that a place means the same in a short, a
long and a cut history; token vectors are those of the item encoder, trained through both.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from legos.blocks.attention import AdditiveAttention, LearnedPositions, MultiHeadSelfAttention
from legos.blocks.dropout import Dropout
from legos.blocks.embedding import FieldEmbeddings
from legos.blocks.fastformer import Fastformer, FastformerSettings
from legos.blocks.packed import PackedTokens, concatenate, gather
from legos.blocks.transformer import Transformer, TransformerSettings
from legos.data.batch import BatchUsers
from legos.data.ragged import Ragged, from_lengths, offsets_of
from legos.registry import UserEncoderConfig, user_encoders

Encoder = Literal["transformer", "fastformer", "self_attention"]


class FlattenConfig(UserEncoderConfig):
    name: Literal["flatten"] = "flatten"
    encoder: Encoder = "transformer"
    """What relates the tokens to each other; time and memory grow by the square of their number,
    with `fastformer` by their number."""
    num_layers: int | None = Field(None, ge=1)
    """Layers of `transformer` (null: 3) or `fastformer` (null: 1); `self_attention` is one."""
    num_heads: int = Field(8, ge=1)
    """Heads of the encoder; must divide hidden_size."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Rate of the encoder (0.1 in Legommenders)."""
    attention_size: int = Field(200, ge=1)
    """Width of the additive attention's tanh layer."""
    separator: bool = True
    """A learned vector after each item."""
    max_tokens: int = Field(512, ge=1)
    """Newest tokens that stay of a history."""

    @model_validator(mode="after")
    def _self_attention_is_one_layer(self) -> Self:
        if self.encoder == "self_attention" and self.num_layers is not None:
            raise ValueError(
                f"num_layers {self.num_layers}: encoder self_attention is one layer; leave it out "
                "or choose encoder transformer or fastformer"
            )
        return self


@user_encoders.register(FlattenConfig)
class FlattenUser(nn.Module):
    """Encode all tokens of a history, pool them by additive attention.

    Args:
        embeddings: vectors of every item field, the same module that the item encoder reads.
        hidden_size: D, of the item vectors.
    """

    order_aware = True

    def __init__(
        self, settings: FlattenConfig, *, embeddings: FieldEmbeddings, hidden_size: int
    ) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.max_tokens = settings.max_tokens
        size = embeddings.hidden_size
        self.separator = nn.Parameter(torch.randn(size) * 0.1) if settings.separator else None
        self.positions = LearnedPositions(
            count=settings.max_tokens, size=size, from_end=True, setting="max_tokens"
        )
        self.encoder = _encoder(settings, size)
        # the other two have their own
        self.dropout = Dropout(settings.dropout if settings.encoder == "self_attention" else 0.0)
        self.attention = AdditiveAttention(size, settings.attention_size)
        # items of another width are met by users of that width
        self.project = nn.Linear(size, hidden_size) if size != hidden_size else nn.Identity()

    def forward(self, history: Tensor, mask: Tensor, users: BatchUsers) -> Tensor:
        """Bool ``(B, H)`` and users -> ``(B, D)``; zeros inside for no tokens."""
        tokens, real = self.sequence(mask, users)  # (B, S, D), (B, S)
        contextual = self.dropout(self.encoder(self.positions(tokens, real), real))
        user: Tensor = self.project(self.attention(contextual, real))
        return user

    def sequence(self, mask: Tensor, users: BatchUsers) -> tuple[Tensor, Tensor]:
        """The newest tokens of each history, padded: ``(B, S, D)`` and bool ``(B, S)``."""
        items = users.items.select(users.history[mask])  # M items, history after history
        parts = [self.embeddings.tokens(items)]
        if self.separator is not None:
            parts.append(_one_for_all(self.separator, len(items)))
        tokens = concatenate(parts)
        numbers = Ragged(tokens.index + 1, tokens.offsets)  # 0 is for the padding
        histories = numbers.grouped(offsets_of(mask.sum(1)))
        rows = torch.arange(len(mask), device=mask.device)
        index, real = histories.padded_tail(rows, self.max_tokens)  # (B, S)
        nothing = tokens.distinct.new_zeros(1, tokens.distinct.shape[1])
        vectors = torch.cat([nothing, tokens.distinct])
        return gather(vectors, index.flatten()).view(*index.shape, vectors.shape[1]), real


def _encoder(settings: FlattenConfig, hidden_size: int) -> nn.Module:
    """``(B, S, D)`` and bool ``(B, S)`` -> ``(B, S, D)``; without positions of its own."""
    if settings.encoder == "self_attention":
        return MultiHeadSelfAttention(hidden_size=hidden_size, num_heads=settings.num_heads)
    chosen = settings.model_dump(include={"num_heads", "dropout"})
    if settings.num_layers is not None:
        chosen["num_layers"] = settings.num_layers
    if settings.encoder == "fastformer":
        return Fastformer(FastformerSettings(**chosen), hidden_size=hidden_size)
    return Transformer(TransformerSettings(**chosen), hidden_size=hidden_size)


def _one_for_all(vector: Tensor, count: int) -> PackedTokens:
    """See a vector ``(D,)`` as the only token of each of ``count`` items."""
    numbers = torch.zeros(count, dtype=torch.int64, device=vector.device)
    return PackedTokens(vector[None], from_lengths(numbers, torch.ones_like(numbers)))
