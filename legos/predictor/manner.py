"""MANNeR (EMNLP 2024): standardised similarities by clicks and by categories, summed by weights.

Iana, Glavaš and Paulheim, Findings of EMNLP 2024 (arXiv:2307.16089). Item encoder ``manner`` makes
vectors of several parts. For each part, the inner products of user and candidates are turned into
z-scores over the candidates. The score is the z-score by clicks plus the weighted z-scores of the
aspects. A positive weight favours the history's categories (personalises), a negative one avoids
them (diversifies). Weights are not used in training: ``--load RUN
--model.predictor.weights.category -0.3`` measures a trained run with other weights.

A training row has one click, and only the scores by clicks count, divided by a temperature: with
loss ``softmax`` that is the CR-Module's supervised contrastive loss. If all items are ranked,
z-scores are taken over all recommendable items, including those the reader has had, and a constant
per reader is left out, which changes no ranking.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.standardised import covariance, deviation, standardised
from legos.errors import ConfigError, nearest
from legos.registry import PredictorConfig, UserOutput, predictors
from legos.settings import CHOICE


class MannerConfig(PredictorConfig):
    name: Literal["manner"] = "manner"
    temperature: float = Field(0.42, gt=0)
    """What scores are divided by in training (0.42 in the authors' settings of the CR-Module)."""
    weights: Annotated[dict[str, float], CHOICE] = Field(default_factory=dict)
    """By aspect how much its standardised similarity counts beside that by clicks, which counts 1;
    an aspect without a weight counts 0."""

    @property
    def accepts(self) -> frozenset[UserOutput]:
        """One vector a user."""
        return frozenset({"vector"})

    @property
    def scores_catalogue(self) -> bool:
        """One matrix product."""
        return True


@predictors.register(MannerConfig)
class Manner(nn.Module):
    """Weighted sum of z-scores.

    Args:
        hidden_size: (1 + A) D.
        aspects: names of the A last parts of an item vector.

    Raises:
        ConfigError: a weight is of no aspect.
    """

    weights: Tensor

    def __init__(
        self, settings: MannerConfig, *, hidden_size: int, aspects: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        for name in settings.weights:
            if name not in aspects:
                hint = nearest(name, aspects) if aspects else "item encoder `manner` makes aspects"
                raise ConfigError(f"weights: no aspect {name!r}; {hint}")
        self.temperature = settings.temperature
        self.size = hidden_size // (1 + len(aspects))
        weights = [1.0, *(settings.weights.get(name, 0.0) for name in aspects)]
        self.register_buffer("weights", torch.tensor(weights), persistent=False)

    def forward(self, user: Tensor, candidates: Tensor, offered: Tensor | None = None) -> Tensor:
        """``(B, 1 or C, D)`` and ``(B, C, D)`` -> ``(B, C)``.

        ``offered``: bool ``(B, C)``, what z-scores are over; None: the scores of training.
        """
        if offered is None:
            scores: Tensor = torch.linalg.vecdot(self._clicked(user), self._clicked(candidates))
            return scores / self.temperature
        products = (user * candidates).unflatten(-1, (len(self.weights), -1)).sum(-1)  # (B, C, 1+A)
        parts = standardised(products.movedim(-1, 0), offered)  # (1 + A, B, C)
        weighed: Tensor = torch.tensordot(self.weights.to(parts.dtype), parts, 1)
        return weighed

    def catalogue(self, user: Tensor, items: Tensor) -> Tensor:
        """The scores of training: ``(B, D)`` and ``(N, D)`` -> ``(B, N)``."""
        users, offered = self.factors(user, items)
        return users @ offered.mT

    def factors(self, user: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Factors of the training scores: ``(B, D')`` and ``(N, D')``, D' of the part by clicks."""
        return self._clicked(user) / self.temperature, self._clicked(items)

    def spread(self, items: Tensor) -> Tensor:
        """Covariances of the parts over recommendable items: ``(N, D)`` -> ``(1 + A, D', D')``."""
        return torch.stack([covariance(part) for part in items.split(self.size, 1)])

    def over_catalogue(self, users: Tensor, spread: Tensor) -> Tensor:
        """``(S, D)`` -> ``(S, D)``, each part times its weight in standard deviations."""
        parts = zip(self.weights, users.split(self.size, 1), spread, strict=True)
        return torch.cat([weight * user / deviation(user, of) for weight, user, of in parts], 1)

    def _clicked(self, vectors: Tensor) -> Tensor:
        return vectors[..., : self.size]
