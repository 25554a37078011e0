"""Vectors that come from elsewhere (a language model, images, another model), projected.

Who has none, and who comes later, share one learned vector.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.mlp import MLP
from legos.blocks.packed import gather
from legos.settings import Count, Settings


class GivenVectorsSettings(Settings):
    """What bricks over given vectors have in common."""

    hidden_sizes: tuple[Count, ...] = ()
    """Widths of ReLU layers before the linear one to hidden_size; none: a linear projection."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Rate on the given vectors and after every hidden layer."""
    normalise: bool = False
    """Scale every given vector to length 1 first."""
    tune: bool = False
    """Train the given vectors themselves, too; they then belong to the checkpoint."""


class GivenVectors(nn.Module):
    """Look up a given vector and project it.

    Vectors that are not trained are a frozen parameter: left out of checkpoints, which remember
    their hash, and not sent around by every step of a training with many processes.

    Args:
        vectors: ``(n, E)`` float32; a row of NaN for who has none.
        hidden_size: D.
    """

    def __init__(
        self, settings: GivenVectorsSettings, *, vectors: Tensor, hidden_size: int
    ) -> None:
        super().__init__()
        self.normalise = settings.normalise
        present = ~vectors.isnan().any(1)
        self.present: Tensor
        self.register_buffer("present", present, persistent=False)
        self.vectors = nn.Parameter(
            vectors.where(present[:, None], 0.0), requires_grad=settings.tune
        )
        self.dropout = nn.Dropout(settings.dropout)
        self.project = MLP(
            vectors.shape[1], settings.hidden_sizes, hidden_size, dropout=settings.dropout
        )
        self.missing = nn.Parameter(torch.randn(hidden_size) * 0.1)

    def look_up(self, ids: Tensor) -> Tensor:
        """``(N,)`` int64 -> ``(N, D)``; ids beyond the given vectors have none."""
        inside = ids < self.present.numel()
        ids = ids.where(inside, 0)
        vectors = gather(self.vectors, ids)  # (N, E)
        if self.normalise:
            length = vectors.norm(dim=1, keepdim=True)
            vectors = vectors / length.where(length > 0, 1.0)
        projected = self.project(self.dropout(vectors))  # (N, D)
        return torch.where((self.present[ids] & inside)[:, None], projected, self.missing)
