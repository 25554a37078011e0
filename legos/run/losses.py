"""Training losses, one number a row, so that micro-batches and processes add up exactly.

``softmax``: cross-entropy over the click and its K negatives (NRMS, Wu et al., EMNLP 2019,
equation 11). ``bce``: binary cross-entropy of every candidate, mean over a row's candidates.
``bpr``: Bayesian personalised ranking (Rendle et al., UAI 2009), mean over a row's negatives.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from legos.errors import ConfigError, nearest


def softmax_loss(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """-log softmax at the click; ``labels`` are not needed because column 0 is the click."""
    scores = scores.masked_fill(~mask, float("-inf"))
    return -functional.log_softmax(scores, dim=1)[:, 0]


def binary_loss(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Mean over a row's candidates of the cross-entropy between click and sigmoid(score)."""
    losses = functional.binary_cross_entropy_with_logits(scores, labels, reduction="none")
    return _masked_mean(losses, mask)


def bpr_loss(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Mean over a row's negatives of -log sigmoid(click's score - negative's score)."""
    losses = -functional.logsigmoid(scores[:, :1] - scores[:, 1:])  # (B, K)
    return _masked_mean(losses, mask[:, 1:])


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "softmax": softmax_loss,
    "bce": binary_loss,
    "bpr": bpr_loss,
}


def row_losses(name: str, scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """The loss of each row, in float32 where the scores are of half precision.

    Args:
        name: softmax, bce or bpr.
        scores: ``(B, C)``, column 0 is the click.
        labels: ``(B, C)`` float32.
        mask: ``(B, C)`` bool, True = a real candidate; column 0 always is.

    Returns:
        ``(B,)`` float32, or float64 like the scores.
    """
    if name not in LOSSES:
        raise ConfigError(f"exp.train.loss: unknown loss {name!r}; {nearest(name, LOSSES)}")
    if scores.dtype in (torch.bfloat16, torch.float16):
        scores = scores.float()
    return LOSSES[name](scores, labels.to(scores.dtype), mask)


def _masked_mean(losses: Tensor, mask: Tensor) -> Tensor:
    total = losses.masked_fill(~mask, 0.0).sum(1)
    return total / mask.sum(1).clamp(min=1)
