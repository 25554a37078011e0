"""SimpleX (CIKM 2021): a learned vector of the user plus the pooled and projected history.

Mao et al., "SimpleX: A Simple and Strong Baseline for Collaborative Filtering", CIKM 2021
(arXiv:2109.12613), section 4.2: ``h = g e + (1 - g) V p`` with the user's id vector ``e`` and the
history's aggregate ``p``. With predictor ``cosine`` (temperature 1) and loss
``cosine_contrastive`` the model is theirs, except for the history: RecBole's version aggregates all
training items of a user, including the one to predict; here only those before the click. ID dropout
is ours.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.attention import masked_softmax
from legos.blocks.dropout import Dropout
from legos.blocks.embedding import IDVectors
from legos.data.batch import BatchUsers
from legos.registry import UserEncoderConfig, user_encoders

Aggregation = Literal["mean", "self_attention", "user_attention"]


class SimpleXConfig(UserEncoderConfig):
    name: Literal["simplex"] = "simplex"
    aggregation: Aggregation = "mean"
    """How the history becomes one vector: its mean; attention by a query that all users share, or
    by the user's id vector."""
    id_weight: float = Field(0.5, ge=0, le=1)
    """g: what the id vector counts for, the history for the rest; 1: the id alone (MF)."""
    id_dropout: float = Field(0.1, ge=0, lt=1)
    """How often a training user is shown as unknown, so that new users get a trained vector."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Rate on the user vector while training."""


@user_encoders.register(SimpleXConfig)
class SimpleX(nn.Module):
    """Weigh a user's id vector against the history."""

    order_aware = False

    def __init__(self, settings: SimpleXConfig, *, known_users: Tensor, hidden_size: int) -> None:
        super().__init__()
        self.aggregation, self.id_weight = settings.aggregation, settings.id_weight
        self.ids = IDVectors(known=known_users, size=hidden_size, id_dropout=settings.id_dropout)
        attends = settings.aggregation != "mean"
        self.key = nn.Linear(hidden_size, hidden_size) if attends else None
        shared = settings.aggregation == "self_attention"
        self.query = nn.Linear(hidden_size, 1, bias=False) if shared else None
        self.map = nn.Linear(hidden_size, hidden_size, bias=False)
        self.dropout = Dropout(settings.dropout)

    def forward(self, history: Tensor, mask: Tensor, users: BatchUsers) -> Tensor:
        """``(B, H, D)``, bool ``(B, H)`` and users -> ``(B, D)``; without a history the id."""
        ids = self.ids.look_up(users.ids)  # (B, D)
        weights = self._weights(history, mask, ids)  # (B, H)
        pooled = (weights[:, None] @ history).squeeze(1)
        user: Tensor = self.id_weight * ids + (1 - self.id_weight) * self.map(pooled)
        user = self.dropout(user)
        return user

    def _weights(self, history: Tensor, mask: Tensor, ids: Tensor) -> Tensor:
        """Weights of items ``(B, H)``; rows sum to 1, or to 0 without an item."""
        if self.key is None:
            return mask.to(history.dtype) / mask.sum(1, keepdim=True).clamp(min=1)
        keys = torch.tanh(self.key(history))  # (B, H, D)
        if self.query is None:
            return masked_softmax((keys @ ids[..., None]).squeeze(-1), mask)
        return masked_softmax(self.query(keys).squeeze(-1), mask)
