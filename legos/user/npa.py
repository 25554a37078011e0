"""NPA (KDD 2019): attention over the history with a query made from the user's ID.

Wu et al., "NPA: Neural News Recommendation with Personalized Attention", KDD 2019
(arXiv:1907.05559), section 3: the query comes from the vector of the user's id through a dense ReLU
layer. The same attention over the words of an item is left out: item vectors would differ between
readers and could not be encoded once for all of them. Users that training never saw share one
learned vector, trained by ID dropout; the paper has no such users.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.attention import masked_softmax
from legos.blocks.embedding import IDVectors
from legos.data.batch import BatchUsers
from legos.registry import UserEncoderConfig, user_encoders


class NPAConfig(UserEncoderConfig):
    name: Literal["npa"] = "npa"
    user_size: int = Field(50, ge=1)
    """Width of the vector of a user's id (50 in the paper)."""
    query_size: int = Field(200, ge=1)
    """Width of the attention query (200 in the paper)."""
    id_dropout: float = Field(0.1, ge=0, lt=1)
    """How often a training user is shown as unknown, so that new users get a trained query."""


@user_encoders.register(NPAConfig)
class NPA(nn.Module):
    """Pool the history by the query of its reader."""

    order_aware = False

    def __init__(self, settings: NPAConfig, *, known_users: Tensor, hidden_size: int) -> None:
        super().__init__()
        self.users = IDVectors(
            known=known_users, size=settings.user_size, id_dropout=settings.id_dropout
        )
        self.query = nn.Linear(settings.user_size, settings.query_size)
        self.project = nn.Linear(settings.query_size, hidden_size)

    def forward(self, history: Tensor, mask: Tensor, users: BatchUsers) -> Tensor:
        """``(B, H, D)``, bool ``(B, H)`` and users -> ``(B, D)``; zeros for no history."""
        query = torch.relu(self.query(self.users.look_up(users.ids)))  # (B, query_size)
        preference = torch.tanh(self.project(query))  # (B, D)
        weights = masked_softmax((history @ preference[..., None]).squeeze(-1), mask)  # (B, H)
        return (weights[:, None] @ history).squeeze(1)
