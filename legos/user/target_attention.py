"""DIN's attention (KDD 2018) over the history: one user vector for each candidate.

Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018, section 4.3; any
predictor may score the pair, ``dot`` for one. The whole of DIN is user encoder ``sequence`` with
predictor ``din``.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from legos.blocks.attention import TargetAttention, TargetAttentionSettings
from legos.data.batch import BatchUsers
from legos.registry import UserEncoderConfig, UserOutput, user_encoders


class TargetAttentionConfig(TargetAttentionSettings, UserEncoderConfig):
    name: Literal["target_attention"] = "target_attention"

    @property
    def output(self) -> UserOutput:
        """One vector for each candidate."""
        return "vector_per_candidate"


@user_encoders.register(TargetAttentionConfig)
class TargetAttentionUser(nn.Module):
    """Weigh the history by its relevance to every candidate."""

    order_aware = False

    def __init__(self, settings: TargetAttentionConfig, *, hidden_size: int) -> None:
        super().__init__()
        self.attention = TargetAttention(settings, hidden_size=hidden_size)

    def forward(self, history: Tensor, mask: Tensor, users: BatchUsers) -> Tensor:
        """``(B, H, D)``, bool ``(B, H)`` and users -> ``(B, C, D)``; zeros for no history."""
        user: Tensor = self.attention(history, users.candidates, mask)
        return user
