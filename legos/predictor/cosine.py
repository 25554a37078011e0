"""The cosine of user and candidate, divided by a temperature."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from legos.registry import PredictorConfig, predictors


class CosineConfig(PredictorConfig):
    name: Literal["cosine"] = "cosine"
    temperature: float = Field(0.1, gt=0)
    """What the cosine is divided by; small ones make the softmax over candidates sharp."""
    learn_temperature: bool = True
    """Train it (in logarithms, so that it stays positive), from the value above."""

    @property
    def scores_catalogue(self) -> bool:
        """One matrix product."""
        return True

    @property
    def gives_cosines(self) -> bool:
        """Where nothing scales them."""
        return self.temperature == 1 and not self.learn_temperature


@predictors.register(CosineConfig)
class Cosine(nn.Module):
    """Cosine over temperature."""

    def __init__(self, settings: CosineConfig) -> None:
        super().__init__()
        start = torch.tensor(math.log(1 / settings.temperature))
        self.log_scale = nn.Parameter(start, requires_grad=settings.learn_temperature)

    def forward(self, user: Tensor, candidates: Tensor) -> Tensor:
        """``(B, 1 or C, D)`` and ``(B, C, D)`` -> ``(B, C)``; 0 where a vector is zero."""
        cosine = torch.linalg.vecdot(_of_length_one(user), _of_length_one(candidates))
        scores: Tensor = cosine * self.log_scale.exp()
        return scores

    def catalogue(self, user: Tensor, items: Tensor) -> Tensor:
        """``(B, D)`` and ``(N, D)`` -> ``(B, N)``."""
        return _of_length_one(user) @ _of_length_one(items).mT * self.log_scale.exp()

    def factors(self, user: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, D)`` and ``(N, D)`` -> of length 1, users over temperature."""
        return _of_length_one(user) * self.log_scale.exp(), _of_length_one(items)


def _of_length_one(vectors: Tensor) -> Tensor:
    """``(..., D)`` -> ``(..., D)``; a zero vector stays, and its gradient is not blown up."""
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    scaled: Tensor = vectors / length.where(length > 0, 1.0)
    return scaled
