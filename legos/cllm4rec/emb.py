"""CLLM4Rec-Emb: trained user and item vectors as inputs of a two-tower model for fast serving.

CLLM4Rec, section 4.5 (LinkedIn). The paper gives neither widths nor the loss; here towers are
256 → 128, vectors are frozen by default, and the loss is a softmax over the batch's items with the
logQ correction (Yi et al., "Sampling-Bias-Corrected Neural Modeling", RecSys 2019).
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from legos.blocks.mlp import MLP
from legos.errors import ConfigError


class TwoTowerSettings(BaseModel):
    """Settings of the two towers."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    hidden_size: PositiveInt = 256
    """Width of a tower's hidden layer (not in the paper)."""
    output_size: PositiveInt = 128
    """Width of what is compared by a dot product (not in the paper)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Rate after the hidden layer."""
    frozen: bool = True
    """Keep CLLM4Rec's vectors as they are."""
    log_q: bool = True
    """Correct the in-batch softmax for how often an item is drawn."""


class TwoTower(nn.Module):
    """``MLP([g_u; t_u; Zu]) · MLP([g_v; t_v; Zv])``.

    Args:
        users: ``(I, D)`` CLLM4Rec's user vectors (collaborative, or both sets side by side).
        items: ``(J, D)`` its item vectors.
        user_features: ``(I, F)`` what else is known of users (of a graph, of text); None: nothing.
        item_features: ``(J, G)`` what else is known of items.
        settings: widths and switches.

    Raises:
        ConfigError: features are for other users or items than the vectors.
    """

    log_popularity: Tensor

    def __init__(
        self,
        *,
        users: Tensor,
        items: Tensor,
        user_features: Tensor | None = None,
        item_features: Tensor | None = None,
        settings: TwoTowerSettings | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings = settings or TwoTowerSettings()
        self.users = _table(users, frozen=settings.frozen)
        self.items = _table(items, frozen=settings.frozen)
        self.user_features = _features("user", user_features, len(users))
        self.item_features = _features("item", item_features, len(items))
        self.user_tower = self._tower(users.shape[1] + self.user_features.embedding_dim)
        self.item_tower = self._tower(items.shape[1] + self.item_features.embedding_dim)
        self.register_buffer("log_popularity", torch.zeros(len(items)))

    def set_popularity(self, counts: Tensor) -> None:
        """Tell how often items are drawn as positives: ``(J,)`` counts; 0 counts as 1."""
        shares = counts.clamp(min=1).float()
        self.log_popularity.copy_((shares / shares.sum()).log())

    def user_vectors(self, users: Tensor) -> Tensor:
        """``(B,)`` int64 -> ``(B, output_size)``."""
        vectors: Tensor = self.user_tower(
            torch.cat([self.user_features(users), self.users(users)], 1)
        )
        return vectors

    def item_vectors(self, items: Tensor) -> Tensor:
        """``(N,)`` int64 -> ``(N, output_size)``; all items once make an index."""
        vectors: Tensor = self.item_tower(
            torch.cat([self.item_features(items), self.items(items)], 1)
        )
        return vectors

    def forward(self, users: Tensor) -> Tensor:
        """Scores of all items: ``(B,)`` int64 -> ``(B, J)``."""
        everything = torch.arange(self.items.num_embeddings, device=users.device)
        return self.user_vectors(users) @ self.item_vectors(everything).T

    def loss(self, users: Tensor, items: Tensor) -> Tensor:
        """Mean in-batch softmax loss of ``(B,)`` pairs; an item is no negative of itself."""
        logits = self.user_vectors(users) @ self.item_vectors(items).T  # (B, B)
        if self.settings.log_q:
            logits = logits - self.log_popularity[items]
        same = (items[:, None] == items) & ~torch.eye(
            len(items), dtype=torch.bool, device=items.device
        )
        targets = torch.arange(len(items), device=items.device)
        return functional.cross_entropy(logits.masked_fill(same, -torch.inf), targets)

    def _tower(self, width: int) -> nn.Module:
        return MLP(
            input_size=width,
            hidden_sizes=(self.settings.hidden_size,),
            output_size=self.settings.output_size,
            dropout=self.settings.dropout,
        )


def _features(kind: str, features: Tensor | None, count: int) -> nn.Embedding:
    """A frozen table of features, zero wide where there are none."""
    if features is None:
        features = torch.zeros(count, 0)
    if len(features) != count:
        raise ConfigError(f"{len(features)} rows of {kind} features for {count} {kind}s")
    return _table(features.float(), frozen=True)


def _table(vectors: Tensor, *, frozen: bool) -> nn.Embedding:
    table: nn.Embedding = nn.Embedding.from_pretrained(vectors.detach().clone(), freeze=frozen)
    return table
