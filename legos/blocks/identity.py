"""Learned vectors of ids: known ids have their own, all others share one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from legos.blocks.packed import gather


class IDVectors(nn.Module):
    """Look up vectors by id; what training never saw is one shared vector.

    Args:
        known: ``(V,)`` bool, True = occurs in the training split.
        size: width of the vectors.
        id_dropout: rate at which known ids are shown as unknown while training.
        learn_unknown: the shared vector is learned; zeros otherwise.
    """

    def __init__(
        self, *, known: Tensor, size: int, id_dropout: float, learn_unknown: bool = True
    ) -> None:
        super().__init__()
        self.known: Tensor
        self.register_buffer("known", known, persistent=False)
        self.id_dropout = id_dropout
        self.vectors = nn.Parameter(torch.randn(known.numel(), size) * 0.1)
        self.unknown = nn.Parameter(torch.randn(size) * 0.1) if learn_unknown else None

    def look_up(self, ids: Tensor) -> Tensor:
        """``(N,)`` int64 -> ``(N, size)``; ids beyond the known range are unknown."""
        inside = ids < self.known.numel()
        ids = ids.where(inside, 0)
        known = self.known[ids] & inside
        if self.training and self.id_dropout > 0:
            known = known & (torch.rand(known.shape, device=known.device) >= self.id_dropout)
        unknown = 0.0 if self.unknown is None else self.unknown
        return torch.where(known[:, None], gather(self.vectors, ids), unknown)
