"""LSTUR (ACL 2019): a learned vector of the user, combined with a GRU over the history.

An et al., "Neural News Recommendation with Long- and Short-term User Representations", ACL 2019
(P19-1033), section 3.2. The long-term vector is masked at random while training; users that
training never saw have zeros, which is what masking shows. ``ini`` starts the GRU from the
long-term vector; ``con`` concatenates it with the GRU's last state, each of them half of the user
vector, because user and item must have the same width (the paper leaves the two widths open).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.embedding import IDVectors
from legos.data.batch import BatchUsers
from legos.errors import ConfigError
from legos.registry import UserEncoderConfig, user_encoders
from legos.user.gru import last_state


class LSTURConfig(UserEncoderConfig):
    name: Literal["lstur"] = "lstur"
    fusion: Literal["ini", "con"] = "ini"
    """`ini`: the GRU starts from the long-term vector; `con`: both side by side (hidden_size must
    be even)."""
    mask_probability: float = Field(0.5, ge=0, lt=1)
    """How often a long-term vector is replaced by zeros while training (0.5 in the paper)."""


@user_encoders.register(LSTURConfig)
class LSTUR(nn.Module):
    """Combine a user's long-term vector with a GRU over the history.

    Raises:
        ConfigError: ``con`` with an odd ``hidden_size``.
    """

    order_aware = True

    def __init__(self, settings: LSTURConfig, *, known_users: Tensor, hidden_size: int) -> None:
        super().__init__()
        if settings.fusion == "con" and hidden_size % 2:
            raise ConfigError(
                f"hidden_size {hidden_size} is odd; fusion con halves it between long and short "
                f"term: choose {hidden_size - 1} or {hidden_size + 1}, or fusion ini"
            )
        size = hidden_size // 2 if settings.fusion == "con" else hidden_size
        self.fusion = settings.fusion
        self.long_term = IDVectors(
            known=known_users, size=size, id_dropout=settings.mask_probability, learn_unknown=False
        )
        self.gru = nn.GRU(hidden_size, size, batch_first=True)

    def forward(self, history: Tensor, mask: Tensor, users: BatchUsers) -> Tensor:
        """``(B, H, D)``, bool ``(B, H)`` and users -> ``(B, D)``.

        An empty history leaves the long-term vector, beside zeros in ``con``.
        """
        long_term = self.long_term.look_up(users.ids)  # (B, D), or (B, D / 2) in con
        if self.fusion == "ini":
            return last_state(self.gru, history, mask, long_term)
        return torch.cat([last_state(self.gru, history, mask), long_term], 1)
