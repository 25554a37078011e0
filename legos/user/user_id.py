"""A learned vector for every user, as in matrix factorisation; the history is not read.

Koren, Bell and Volinsky, "Matrix Factorization Techniques for Recommender Systems", Computer 2009;
with item encoder ``id`` and predictor ``dot`` the model is theirs without biases. Users that
training never saw share one learned vector, which ID dropout trains, as in item encoder ``id``.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from legos.blocks.embedding import IDVectors
from legos.data.batch import BatchUsers
from legos.registry import UserEncoderConfig, user_encoders


class UserIDConfig(UserEncoderConfig):
    name: Literal["user_id"] = "user_id"
    id_dropout: float = Field(0.1, ge=0, lt=1)
    """How often a training user is shown as unknown, so that new users get a trained vector."""


@user_encoders.register(UserIDConfig)
class UserID(IDVectors):
    """Look up user vectors."""

    order_aware = False

    def __init__(self, settings: UserIDConfig, *, known_users: Tensor, hidden_size: int) -> None:
        super().__init__(known=known_users, size=hidden_size, id_dropout=settings.id_dropout)

    def forward(self, history: Tensor, mask: Tensor, users: BatchUsers) -> Tensor:
        """``(B, H, D)``, bool ``(B, H)`` (neither is looked at) and users -> ``(B, D)``."""
        return self.look_up(users.ids)
