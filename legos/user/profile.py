"""Another user encoder, combined with the user's profile: texts, categories or numbers.

The profile may be any content of table ``users``, such as a region, or GENRE's topics and interests
(Liu et al., "ONCE", WSDM 2024, section 3.2, fuse such a vector into the user vector). An item
encoder reads the users' fields. Users without a profile share a learned "missing" vector.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import torch
from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator
from torch import Tensor, nn

from legos.blocks.attention import AdditiveAttention
from legos.blocks.embedding import FieldEmbeddings
from legos.blocks.packed import Penalised, encode_history, gather
from legos.data.batch import BatchUsers
from legos.data.items import ItemStore
from legos.registry import (
    BrickConfig,
    UserEncoderConfig,
    UserOutput,
    item_encoders,
    user_encoders,
)

Fusion = Literal["concat_linear", "gate", "attention"]


class ProfileConfig(UserEncoderConfig):
    name: Literal["profile"] = "profile"
    history: SerializeAsAny[Annotated[UserEncoderConfig, BeforeValidator(user_encoders.validate)]]
    """The user encoder that reads the history."""
    profile: SerializeAsAny[Annotated[BrickConfig, BeforeValidator(item_encoders.validate)]]
    """The item encoder that reads `data.user_fields`."""
    fusion: Fusion = "concat_linear"
    """A linear layer over both vectors, a gate between them, or additive attention over the two."""
    attention_size: int = Field(200, ge=1)
    """Width of the tanh layer of fusion `attention`."""

    @property
    def output(self) -> UserOutput:
        """The output of the history's encoder."""
        return self.history.output

    @model_validator(mode="after")
    def _history_becomes_vectors(self) -> Self:
        if self.history.output == "sequence":
            raise ValueError(
                f"history {self.history.name!r} gives the whole history, and a profile is fused "
                "into user vectors; choose an encoder that makes vectors of it"
            )
        return self


@user_encoders.register(ProfileConfig)
class ProfileUser(nn.Module):
    """Fuse a profile vector into the user vectors (each of them, where there are several).

    Args:
        profile_embeddings: vectors of the users' fields.
        history: user encoder of the history.
        profile: item encoder over the users' fields.
    """

    def __init__(
        self,
        settings: ProfileConfig,
        *,
        hidden_size: int,
        profile_embeddings: FieldEmbeddings,
        history: nn.Module,
        profile: nn.Module,
    ) -> None:
        super().__init__()
        self.history = history
        self.order_aware = history.order_aware
        self.profile = profile
        width = getattr(profile, "output_size", profile_embeddings.hidden_size)
        self.project = nn.Linear(width, hidden_size) if width != hidden_size else nn.Identity()
        self.missing = nn.Parameter(torch.randn(hidden_size) * 0.1)
        self.fuse = _FUSIONS[settings.fusion](hidden_size, settings.attention_size)
        if isinstance(history, Penalised):
            self.penalty = history.penalty

    def forward(self, history: Tensor, mask: Tensor, users: BatchUsers) -> Tensor:
        """``(B, H, D)``, bool ``(B, H)`` and users -> what the history's encoder gives."""
        user = encode_history(self.history, history, mask, users)  # (B, ..., D)
        profile = self._profiles(users)
        between = [1] * (user.dim() - profile.dim())
        profile = profile.view(profile.shape[0], *between, profile.shape[1]).expand_as(user)
        fused: Tensor = self.fuse(user, profile)
        return fused

    def _profiles(self, users: BatchUsers) -> Tensor:
        """``(B, D)``; every distinct user is encoded once."""
        profiles = users.profiles
        if profiles is None:
            raise ValueError("the users come without profiles, and this model was built with")
        ids, place = torch.unique(users.ids, return_inverse=True)
        known = ids < len(profiles)  # new users have said nothing yet
        content = profiles.batch(ids.where(known, 0))
        said = known & _has_text(profiles, content.ids)
        vectors = self.project(self.profile(content))  # (U, D)
        return gather(torch.where(said[:, None], vectors, self.missing), place)


def _has_text(profiles: ItemStore, users: Tensor) -> Tensor:
    """``(U,)`` bool: any word in any text field; True where there are categories alone."""
    texts = [tokens.lengths[users] for tokens in profiles.texts.values()]
    return torch.stack(texts).sum(0) > 0 if texts else torch.ones_like(users, dtype=torch.bool)


class _ConcatLinear(nn.Module):
    """A linear fusion that starts as the history's vector, without any random map to undo."""

    def __init__(self, hidden_size: int, attention_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * hidden_size, hidden_size)
        with torch.no_grad():
            self.linear.weight.copy_(torch.eye(hidden_size, 2 * hidden_size))
            self.linear.bias.zero_()

    def forward(self, user: Tensor, profile: Tensor) -> Tensor:
        fused: Tensor = self.linear(torch.cat([user, profile], -1))
        return fused


class _Gate(nn.Module):
    def __init__(self, hidden_size: int, attention_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * hidden_size, hidden_size)

    def forward(self, user: Tensor, profile: Tensor) -> Tensor:
        gate = torch.sigmoid(self.linear(torch.cat([user, profile], -1)))
        fused: Tensor = gate * user + (1 - gate) * profile
        return fused


class _Attention(nn.Module):
    def __init__(self, hidden_size: int, attention_size: int) -> None:
        super().__init__()
        self.attention = AdditiveAttention(hidden_size, attention_size)

    def forward(self, user: Tensor, profile: Tensor) -> Tensor:
        both = torch.stack([user, profile], -2)  # (B, ..., 2, D)
        mask = torch.ones(both.shape[:-1], dtype=torch.bool, device=both.device)
        fused: Tensor = self.attention(both, mask)
        return fused


_FUSIONS = {"concat_linear": _ConcatLinear, "gate": _Gate, "attention": _Attention}
