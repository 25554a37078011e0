"""FinalMLP (AAAI 2023): two perceptrons with gated inputs, joined by a bilinear layer.

Mao et al., "FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction", AAAI 2023, equations
4-10. In the paper selected features control the gates of a stream; here the user controls those of
the first stream and the candidate those of the second.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from legos.blocks.embedding import FIELDS, side_by_side
from legos.blocks.mlp import MLP, DeepSettings, HiddenLayers
from legos.errors import ConfigError
from legos.registry import predictors


class FinalMLPConfig(DeepSettings):
    name: Literal["finalmlp"] = "finalmlp"
    hidden_sizes: tuple[PositiveInt, ...] = Field((256, 128), min_length=1)
    """Widths of each of the two perceptrons (three of 400 in the paper, on Criteo)."""
    num_heads: int = Field(2, ge=1)
    """Parts that the bilinear layer works on; must divide the last width."""
    feature_selection: bool = True
    """Gates before the streams (Legommenders has none)."""
    gate_sizes: tuple[PositiveInt, ...] = (64,)
    """Hidden widths of the gates' perceptrons; none: a linear layer."""


@predictors.register(FinalMLPConfig)
class FinalMLP(nn.Module):
    """Two streams over [u; c].

    Raises:
        ConfigError: ``num_heads`` does not divide the last width.
    """

    def __init__(self, settings: FinalMLPConfig, *, hidden_size: int) -> None:
        super().__init__()
        width, last = FIELDS * hidden_size, settings.hidden_sizes[-1]
        if last % settings.num_heads:
            valid = ", ".join(str(heads) for heads in range(1, last + 1) if last % heads == 0)
            raise ConfigError(
                f"num_heads {settings.num_heads} does not divide the last hidden width {last}; "
                f"choose from: {valid}"
            )
        gates = 2 if settings.feature_selection else 0
        self.gates = nn.ModuleList(
            MLP(hidden_size, settings.gate_sizes, width, dropout=settings.dropout)
            for _ in range(gates)
        )
        self.streams = nn.ModuleList(
            HiddenLayers(width, settings.hidden_sizes, dropout=settings.dropout) for _ in range(2)
        )
        part = last // settings.num_heads
        self.linear = nn.Linear(2 * last, 1)
        self.bilinear = nn.Parameter(torch.empty(settings.num_heads, part, part))
        for head in self.bilinear.data:
            nn.init.xavier_uniform_(head)

    def forward(self, user: Tensor, candidates: Tensor) -> Tensor:
        """``(B, 1 or C, D)`` and ``(B, C, D)`` -> ``(B, C)``."""
        both = side_by_side(user, candidates)  # (B, C, 2D)
        inputs = [both, both]
        if self.gates:
            inputs = [
                2 * torch.sigmoid(gate(context)) * both
                for gate, context in zip(self.gates, (user, candidates), strict=True)
            ]
        first, second = (
            stream(values) for stream, values in zip(self.streams, inputs, strict=True)
        )  # (B, C, S)
        shape = (*first.shape[:-1], *self.bilinear.shape[:2])
        crossed = torch.einsum(
            "...hi,hij,...hj->...", first.view(shape), self.bilinear, second.view(shape)
        )
        scores: Tensor = self.linear(torch.cat([first, second], -1)).squeeze(-1) + crossed
        return scores
