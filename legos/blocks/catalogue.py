"""What predictors have in common that score many users with the same items at once."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class CatalogueScorer(Protocol):
    """A predictor that scores users with items they share by matrix products."""

    def catalogue(self, user: Tensor, items: Tensor) -> Tensor:
        """Users as the user encoder gave them, ``(B, ...)``, and ``(N, D)`` -> ``(B, N)``."""
