"""The mean or maximum of the item vectors of the history; no parameters."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from legos.registry import UserEncoderConfig, user_encoders


class PoolingConfig(UserEncoderConfig):
    name: Literal["pooling"] = "pooling"
    mode: Literal["mean", "max"] = "mean"
    """How the history is pooled."""


@user_encoders.register(PoolingConfig)
class PoolingUser(nn.Module):
    """Pool the history."""

    order_aware = False
    late_fusion = True  # a number of the user comes of that number of the items alone

    def __init__(self, settings: PoolingConfig) -> None:
        super().__init__()
        self.mode = settings.mode

    def forward(self, history: Tensor, mask: Tensor) -> Tensor:
        """``(B, H, D)`` and bool ``(B, H)`` -> ``(B, D)``; zeros for an empty history."""
        if self.mode == "mean":
            total = (history * mask[..., None]).sum(1)
            return total / mask.sum(1, keepdim=True).clamp(min=1)
        lowest = torch.finfo(history.dtype).min
        highest = history.masked_fill(~mask[..., None], lowest).amax(1)
        return highest * mask.any(1, keepdim=True)
