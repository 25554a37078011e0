"""Encoders whose output at an item depends on what came before alone, the last being the user."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from legos.blocks.attention import refuse_longer
from legos.blocks.causal import CausalBlocks
from legos.blocks.packed import last_of_each, without_padding
from legos.data.ragged import offsets_of


class CausalStates(nn.Module, ABC):
    """Packs histories, reads them from old to new, keeps the output at the newest item.

    Attributes:
        max_history: the longest history that can be read.
        scale: what items are multiplied by before anything else.
    """

    max_history: int
    scale: float

    @abstractmethod
    def read(self, values: Tensor, within: CausalBlocks) -> Tensor:
        """Scaled items ``(P, D)`` of all histories, P at least 1 -> outputs ``(P, D)``."""

    def forward(self, history: Tensor, mask: Tensor) -> Tensor:
        """``(B, H, D)`` and bool ``(B, H)`` -> ``(B, D)``; zeros for an empty history.

        Raises:
            ConfigError: H is more than ``max_history``.
        """
        states = self.states(history, mask)
        if not len(states):
            return history.new_zeros(len(history), history.shape[2])
        return last_of_each(states, offsets_of(mask.sum(1)))

    def states(self, history: Tensor, mask: Tensor) -> Tensor:
        """``(B, H, D)`` and bool ``(B, H)`` -> ``(P, D)``, the outputs at all real items.

        Raises:
            ConfigError: H is more than ``max_history``.
        """
        refuse_longer(history.shape[1], self.max_history, setting="max_history")
        tokens = without_padding(history, mask)
        if not len(tokens.index):
            return history.new_zeros(0, history.shape[2])
        # (P, D): each token is a distinct one
        return self.read(tokens.distinct * self.scale, CausalBlocks(tokens.numbers))
