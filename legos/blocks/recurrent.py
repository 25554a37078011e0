"""The last state of a recurrent network over padded histories."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
