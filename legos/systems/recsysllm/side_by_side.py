"""Continuations of a prompt beside each other in one row: each sees the prompt and itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from legos.data.ragged import from_lengths


@dataclass(frozen=True)
class SideBySide:
    """Where P tokens of continuations of R prompts stand in rows of W places.

    Attributes:
        slots: ``(P,)`` int64 place of each token in R * W.
        mask: ``(R, W, W)`` bool: a token sees those of its continuation up to itself.
    """

    slots: Tensor
    mask: Tensor

    def column(self, values: Tensor, free: int) -> Tensor:
        """One value a token, ``(P,)`` int64 -> ``(R, W)``, ``free`` where no token stands."""
        return _column(values, self.slots, self.mask.shape[:2], free)


def side_by_side(owners: Tensor, segments: Tensor, inside: Tensor, *, rows: int) -> SideBySide:
    """Place tokens.

    Args:
        owners: ``(P,)`` int64 row of each token, ascending.
        segments: ``(P,)`` int64 which continuation it belongs to.
        inside: ``(P,)`` int64 its place in that.
        rows: R.
    """
    counts = torch.bincount(owners, minlength=rows)
    width = int(counts.max())
    slots = owners * width + from_lengths(owners, counts).positions
    shape = torch.Size((rows, width))
    number = _column(segments, slots, shape, -1)
    order = _column(inside, slots, shape, 0)
    own = number[:, :, None] == number[:, None, :]
    return SideBySide(slots, own & (order[:, None, :] <= order[:, :, None]))


def chunks(lengths: Tensor, owners: Tensor, max_tokens: int) -> list[Tensor]:
    """Continuations that are read together: of each row as many as have so many tokens.

    Args:
        lengths: ``(S,)`` int64 tokens of each.
        owners: ``(S,)`` int64 row of each, ascending.
        max_tokens: of a row; at least one continuation is read.
    """
    ends = lengths.cumsum(0)
    first = torch.searchsorted(owners, owners)  # of the same row
    before = ends - lengths - (ends - lengths)[first]
    number = before // max_tokens
    return [(number == chunk).nonzero()[:, 0] for chunk in number.unique()]


def _column(values: Tensor, slots: Tensor, shape: torch.Size, free: int) -> Tensor:
    flat = torch.full((shape.numel(),), free, dtype=torch.int64, device=slots.device)
    return flat.index_copy(0, slots, values).view(shape)
