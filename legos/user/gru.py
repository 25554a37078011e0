"""The last state of a GRU (EMNLP 2014) over the history, oldest click first.

Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine
Translation", EMNLP 2014, section 2.3; as a user encoder it is LSTUR's short-term part (An et al.,
ACL 2019, section 3.2.2) and, with ``output_projection``, what Legommenders calls LSTUR.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.dropout import Dropout
from legos.registry import UserEncoderConfig, user_encoders


class GRUConfig(UserEncoderConfig):
    name: Literal["gru"] = "gru"
    num_layers: int = Field(1, ge=1)
    """GRU layers on top of each other."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Rate on the last state and between layers."""
    input_dropout: float = Field(0.0, ge=0, lt=1)
    """Rate on the items (GRU4Rec's code has one; 0.3 in RecBole)."""
    output_projection: bool = False
    """A linear layer over the last state (not in the paper; Legommenders has one)."""

    @property
    def reads_prefixes(self) -> bool:
        """True: a state depends only on earlier items."""
        return True


@user_encoders.register(GRUConfig)
class GRUUser(nn.Module):
    """Read the history; the last state is the user."""

    order_aware = True

    def __init__(self, settings: GRUConfig, *, hidden_size: int) -> None:
        super().__init__()
        self.gru = nn.GRU(
            hidden_size,
            hidden_size,
            settings.num_layers,
            batch_first=True,
            dropout=settings.dropout if settings.num_layers > 1 else 0.0,
        )
        self.input_dropout = Dropout(settings.input_dropout)
        self.dropout = Dropout(settings.dropout)
        self.output = (
            nn.Linear(hidden_size, hidden_size) if settings.output_projection else nn.Identity()
        )

    def forward(self, history: Tensor, mask: Tensor) -> Tensor:
        """``(B, H, D)`` and bool ``(B, H)`` -> ``(B, D)``; zeros for an empty history."""
        state = self.dropout(last_state(self.gru, self.input_dropout(history), mask))
        user: Tensor = self.output(state) * mask.any(1, keepdim=True)
        return user

    def states(self, history: Tensor, mask: Tensor) -> Tensor:
        """``(B, H, D)`` and bool ``(B, H)`` -> ``(P, D)`` after all real items."""
        states, _ = self.gru(self.input_dropout(history))  # (B, H, D)
        users: Tensor = self.output(self.dropout(states[mask]))
        return users


def last_state(gru: nn.GRU, history: Tensor, mask: Tensor, initial: Tensor | None = None) -> Tensor:
    """State of the top layer after the last real element.

    A state depends on what came before alone, so the padded run is exact where padding stands on
    the right; nothing has to be sorted or packed.

    Args:
        gru: ``batch_first``, one direction.
        history: ``(B, H, D)``, H at least 1, padded on the right.
        mask: ``(B, H)`` bool.
        initial: ``(B, S)`` state of every layer before the first element; zeros if None.

    Returns:
        ``(B, S)``; the initial state where nothing is real.
    """
    if initial is None:
        initial = history.new_zeros(history.shape[0], gru.hidden_size)
    states, _ = gru(history, initial.expand(gru.num_layers, -1, -1).contiguous())  # (B, H, S)
    states = torch.cat([initial[:, None].to(states.dtype), states], 1)  # (B, 1 + H, S)
    rows = torch.arange(history.shape[0], device=history.device)
    return states[rows, mask.sum(1)]
