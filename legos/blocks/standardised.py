"""Scores as distances from their mean in standard deviations (z-scores), which add up."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Standardises(Protocol):
    """A predictor whose scores go by what else is offered.

    Its ``forward`` takes a third argument then, bool ``(B, C)``: which candidates are.
    """

    def spread(self, items: Tensor) -> Tensor:
        """What ``over_catalogue`` has to know of all that is offered, ``(N, D)``."""

    def over_catalogue(self, users: Tensor, spread: Tensor) -> Tensor:
        """``(S, D)`` -> ``(S, D)`` users.

        Their inner products with items are the scores, but for a number a user.
        """


def standardised(scores: Tensor, offered: Tensor) -> Tensor:
    """Z-scores over what is offered; 0 where all is alike, and where nothing is offered.

    Args:
        scores: ``(..., C)``.
        offered: ``(..., C)`` bool.

    Returns:
        ``(..., C)``; the standard deviation is that of a sample (C - 1).
    """
    count = offered.sum(-1, keepdim=True)
    mean = scores.where(offered, 0.0).sum(-1, keepdim=True) / count.clamp(min=1)
    off = (scores - mean).where(offered, 0.0)
    variance = off.square().sum(-1, keepdim=True) / (count - 1).clamp(min=1)
    return off / _root(variance)


def covariance(items: Tensor) -> Tensor:
    """Of a sample of vectors ``(N, D)``: ``(D, D)`` float64."""
    off = items.double() - items.double().mean(0)
    return off.mT @ off / max(1, len(items) - 1)


def deviation(users: Tensor, covariance: Tensor) -> Tensor:
    """Standard deviations of users' inner products with items, 1 where these are alike.

    The products themselves, one a user and item, are never held.

    Args:
        users: ``(S, D)``.
        covariance: of the items, ``(D, D)`` float64.

    Returns:
        ``(S, 1)``.
    """
    variance = torch.linalg.vecdot(users.double() @ covariance, users.double())
    return _root(variance[:, None]).to(users.dtype)


def _root(variance: Tensor) -> Tensor:
    """The square root, and 1 for what does not vary: its gradient is finite."""
    return variance.where(variance > 0, 1.0).sqrt()
