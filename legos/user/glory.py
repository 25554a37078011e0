"""GLORY (RecSys 2023): self-attention and additive attention over the items' click vectors.

Yang et al., RecSys 2023 (arXiv:2307.06576): NRMS's user encoder over clicks. Item encoder ``glory``
represents an item as a click in the first half of its vector and as a candidate in the second. The
user vector is zero in the first half and compared with candidates in the second.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from legos.blocks.attention import SelfAttentionSettings
from legos.errors import ConfigError
from legos.registry import UserEncoderConfig, user_encoders
from legos.user.self_attention import SelfAttentionConfig, SelfAttentionUser


class GloryConfig(SelfAttentionSettings, UserEncoderConfig):
    name: Literal["glory"] = "glory"


@user_encoders.register(GloryConfig)
class GloryUser(nn.Module):
    """Encode the click halves of item vectors, to be compared with candidate halves.

    Raises:
        ConfigError: ``hidden_size`` has no halves, or ``num_heads`` does not divide them.
    """

    order_aware = False

    def __init__(self, settings: GloryConfig, *, hidden_size: int) -> None:
        super().__init__()
        if hidden_size % 2:
            raise ConfigError(
                f"item vectors of {hidden_size} numbers have no halves; take item encoder glory"
            )
        self.width = hidden_size // 2
        of_clicks = SelfAttentionConfig(**settings.model_dump(exclude={"name"}))
        self.clicks = SelfAttentionUser(of_clicks, hidden_size=self.width)

    def forward(self, history: Tensor, mask: Tensor) -> Tensor:
        """``(B, H, D)`` and bool ``(B, H)`` -> ``(B, D)``; zeros for an empty history."""
        user: Tensor = self.clicks(history[..., : self.width], mask)
        return nn.functional.pad(user, (self.width, 0))
