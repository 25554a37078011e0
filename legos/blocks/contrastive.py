"""Supervised contrastive learning: vectors of one label close together, those of others apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from legos.data.items import ItemBatch


@runtime_checkable
class LearnsLabels(Protocol):
    """An item encoder of several parts, of which all but the first learn from labels of items."""

    def clicked(self, items: ItemBatch) -> Tensor:
        """As ``forward`` gives them, but zeros in the parts that do not learn from clicks."""

    def label_loss(self, labelled: Sequence[ItemBatch]) -> Tensor:
        """The loss ``()`` of all labels, each on items of its own."""


def supervised_contrastive_loss(vectors: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """SupCon of Khosla et al., NeurIPS 2020 (arXiv:2004.11362, equation 2), over inner products.

    For an item i with others of its label, P(i): the mean over p in P(i) of -log(exp(v_i v_p / τ) /
    Σ_{a ≠ i} exp(v_i v_a / τ)). Items that are alone with their label are compared with, and
    have no loss of their own.

    Args:
        vectors: ``(M, D)``.
        labels: ``(M,)`` int64.
        temperature: τ.

    Returns:
        ``()`` the mean over items that have such others; 0 where none has.
    """
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    logits = (vectors @ vectors.mT).float() if vectors.dtype.itemsize < 4 else vectors @ vectors.mT
    logits = (logits / temperature).masked_fill(itself, torch.finfo(logits.dtype).min)
    alike = (labels[:, None] == labels) & ~itself  # (M, M)
    counts = alike.sum(1)
    surprise = logits.logsumexp(1, keepdim=True) - logits
    losses = surprise.where(alike, 0.0).sum(1) / counts.clamp(min=1)
    return losses.sum() / (counts > 0).sum().clamp(min=1)
