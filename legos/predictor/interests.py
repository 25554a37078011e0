"""MINER (ACL 2022): scores of the candidate by all interests: maximum, mean or weighted sum.

Li et al., "MINER: Multi-Interest Matching Network for News Recommendation", Findings of ACL 2022,
section 3: the scores' maximum, their mean, or their sum weighted by target-aware attention, in
which the candidate attends to a dense GELU layer over the interests.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from legos.registry import PredictorConfig, UserOutput, predictors

Aggregation = Literal["weighted", "max", "mean"]


class InterestsConfig(PredictorConfig):
    name: Literal["interests"] = "interests"
    aggregation: Aggregation = "weighted"
    """How the interests' scores become one: `weighted` by target-aware attention, `max`, `mean`."""

    @property
    def accepts(self) -> frozenset[UserOutput]:
        """Several interest vectors."""
        return frozenset({"interests", "interests_per_candidate"})

    @property
    def scores_catalogue(self) -> bool:
        """One matrix product an interest."""
        return True


@predictors.register(InterestsConfig)
class InterestsPredictor(nn.Module):
    """Inner product of the candidate with every interest, aggregated."""

    def __init__(self, settings: InterestsConfig, *, hidden_size: int) -> None:
        super().__init__()
        self.aggregation = settings.aggregation
        self.project = (
            nn.Linear(hidden_size, hidden_size, bias=False)
            if settings.aggregation == "weighted"
            else None
        )

    def forward(self, user: Tensor, candidates: Tensor) -> Tensor:
        """``(B, 1 or C, K, D)`` and ``(B, C, D)`` -> ``(B, C)``."""
        scores = _products(user, candidates)  # (B, C, K)
        weights = None
        if self.project is not None:
            weights = _products(F.gelu(self.project(user)), candidates)
        return self._aggregate(scores, weights)

    def catalogue(self, user: Tensor, items: Tensor) -> Tensor:
        """``(B, K, D)`` and ``(N, D)`` -> ``(B, N)``; holds ``(B, N, K)``."""
        scores = (user @ items.mT).mT  # (B, N, K)
        weights = None
        if self.project is not None:
            weights = (F.gelu(self.project(user)) @ items.mT).mT
        return self._aggregate(scores, weights)

    def _aggregate(self, scores: Tensor, logits: Tensor | None) -> Tensor:
        """``(B, C, K)`` scores and attention logits -> ``(B, C)``."""
        if logits is not None:
            weights = logits.softmax(-1)
            total: Tensor = torch.linalg.vecdot(weights, scores)
            return total
        return scores.amax(-1) if self.aggregation == "max" else scores.mean(-1)


def _products(interests: Tensor, candidates: Tensor) -> Tensor:
    """Inner products: ``(B, 1 or C, K, D)`` and ``(B, C, D)`` -> ``(B, C, K)``."""
    if interests.shape[1] == 1:
        return candidates @ interests[:, 0].mT
    return (interests @ candidates[..., None]).squeeze(-1)
