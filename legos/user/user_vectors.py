"""Precomputed user vectors, projected: the user tower of a two-tower model.

With item encoder ``fixed_vectors`` and predictor ``dot`` over the vectors of a trained CLLM4Rec it
is CLLM4Rec-Emb (WWW 2024, section 4.5), which serves as fast as matrix factorisation. The history
is not read.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from legos.blocks.embedding import GivenVectors, GivenVectorsSettings
from legos.data.batch import BatchUsers
from legos.registry import UserEncoderConfig, user_encoders


class UserVectorsConfig(GivenVectorsSettings, UserEncoderConfig):
    """Settings of the user encoder over given vectors (`embed.user_vectors`)."""

    name: Literal["user_vectors"] = "user_vectors"


@user_encoders.register(UserVectorsConfig)
class UserVectors(GivenVectors):
    """Look up a user's given vector and project it.

    Args:
        user_vectors: ``(users, E)`` float32; a row of NaN for a user without a vector.
    """

    order_aware = False

    def __init__(
        self, settings: UserVectorsConfig, *, user_vectors: Tensor, hidden_size: int
    ) -> None:
        super().__init__(settings, vectors=user_vectors, hidden_size=hidden_size)

    def forward(self, history: Tensor, mask: Tensor, users: BatchUsers) -> Tensor:
        """``(B, H, D)``, bool ``(B, H)`` (neither is looked at) and users -> ``(B, D)``."""
        return self.look_up(users.ids)
