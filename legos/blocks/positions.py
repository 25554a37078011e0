"""Learned positions, and the last real position of a sequence."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from legos.blocks.embedding import FieldEmbeddings
from legos.blocks.packed import gather
from legos.errors import ConfigError

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

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """``(B, S, D)`` and bool ``(B, S)`` -> ``(B, S, D)`` with the positions added.

        Raises:
            ConfigError: S is more than ``count``.
        """
        length = values.shape[1]
        refuse_longer(length, self.vectors.shape[0], setting=self.setting)
        if not self.from_end:
            return values + self.vectors[:length]
        places = mask.sum(1, keepdim=True) - mask.cumsum(1)  # (B, S) real ones that follow
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
