"""Inner product of user and candidate (NAML, IJCAI 2019, section 3.3; NRMS, EMNLP 2019)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from legos.registry import PredictorConfig, predictors


class DotConfig(PredictorConfig):
    """Settings of the inner product: none."""

    name: Literal["dot"] = "dot"

    @property
    def scores_catalogue(self) -> bool:
        """One matrix product."""
        return True


@predictors.register(DotConfig)
class Dot(nn.Module):
    """Inner product."""

    def __init__(self, settings: DotConfig) -> None:
        super().__init__()

    def forward(self, user: Tensor, candidates: Tensor) -> Tensor:
        """``(B, 1 or C, D)`` and ``(B, C, D)`` -> ``(B, C)``."""
        scores: Tensor = torch.linalg.vecdot(user, candidates)
        return scores

    def catalogue(self, user: Tensor, items: Tensor) -> Tensor:
        """``(B, D)`` and ``(N, D)`` -> ``(B, N)``."""
        return user @ items.mT

    def factors(self, user: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, D)`` and ``(N, D)`` as they are."""
        return user, items
