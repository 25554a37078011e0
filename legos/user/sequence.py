"""The history itself, for a predictor that attends to it (``din``); no parameters."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from legos.registry import UserEncoderConfig, UserOutput, user_encoders


class SequenceConfig(UserEncoderConfig):
    """Settings of the sequence user encoder: none."""

    name: Literal["sequence"] = "sequence"

    @property
    def output(self) -> UserOutput:
        """The whole history."""
        return "sequence"


@user_encoders.register(SequenceConfig)
class SequenceUser(nn.Module):
    """Pass the history on."""

    order_aware = True

    def __init__(self, settings: SequenceConfig) -> None:
        super().__init__()

    def forward(self, history: Tensor, mask: Tensor) -> Tensor:
        """``(B, H, D)`` and bool ``(B, H)`` -> ``(B, H, D)`` with zeros under the mask."""
        return history.where(mask[..., None], 0.0)
