"""MaskNet (DLP-KDD 2021): perceptrons whose input is multiplied by a mask computed from it.

Wang, She and Zhang, "MaskNet: Introducing Feature-Wise Multiplication to CTR Ranking Models by
Instance-Guided Mask", DLP-KDD 2021, equations 5-17 (SerMaskNet and ParaMaskNet).
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.embedding import FIELDS, as_fields
from legos.blocks.mlp import MLP, DeepSettings
from legos.registry import predictors

Structure = Literal["parallel", "serial"]


class MaskNetConfig(DeepSettings):
    """Settings of MaskNet (three layers of 400 in the paper; a serial chain has none)."""

    name: Literal["masknet"] = "masknet"
    structure: Structure = "parallel"
    """`parallel` blocks under a perceptron (ParaMaskNet), or one `serial` chain (SerMaskNet)."""
    num_blocks: int = Field(3, ge=1)
    """Mask blocks (1 to 9 in the paper's table 5, 1 in Legommenders)."""
    block_size: int = Field(64, ge=1)
    """Width of a block (64 in Legommenders)."""
    reduction_ratio: float = Field(2.0, gt=0)
    """Width of a mask's hidden layer over that of the mask (2 in the paper, 1 in Legommenders)."""


@predictors.register(MaskNetConfig)
class MaskNet(nn.Module):
    """Mask blocks over user and candidate."""

    def __init__(self, settings: MaskNetConfig, *, hidden_size: int) -> None:
        super().__init__()
        width = FIELDS * hidden_size
        self.is_parallel = settings.structure == "parallel"
        self.norms = nn.ModuleList(nn.LayerNorm(hidden_size) for _ in range(FIELDS))
        inputs = [width] * settings.num_blocks
        if not self.is_parallel:
            inputs[1:] = [settings.block_size] * (settings.num_blocks - 1)
        self.blocks = nn.ModuleList(
            MaskBlock(
                instance_size=width,
                input_size=size,
                output_size=settings.block_size,
                reduction_ratio=settings.reduction_ratio,
            )
            for size in inputs
        )
        self.output = MLP(
            settings.block_size * (settings.num_blocks if self.is_parallel else 1),
            settings.hidden_sizes if self.is_parallel else (),
            1,
            dropout=settings.dropout,
        )

    def forward(self, user: Tensor, candidates: Tensor) -> Tensor:
        """``(B, 1 or C, D)`` and ``(B, C, D)`` -> ``(B, C)``."""
        fields = as_fields(user, candidates)  # (B, C, F, D)
        instance = fields.flatten(-2)
        normed = [norm(field) for norm, field in zip(self.norms, fields.unbind(-2), strict=True)]
        hidden = torch.cat(normed, -1)  # (B, C, F * D)
        if self.is_parallel:
            hidden = torch.cat([block(instance, hidden) for block in self.blocks], -1)
        else:
            for block in self.blocks:
                hidden = block(instance, hidden)
        scores: Tensor = self.output(hidden)
        return scores.squeeze(-1)


class MaskBlock(nn.Module):
    """``relu(LayerNorm(W (mask(instance) ⊙ input)))``, the mask a two-layer perceptron.

    Args:
        instance_size: width of the instance that makes the mask.
        input_size: width of what is masked.
        output_size: width of what comes out.
        reduction_ratio: width of the mask's hidden layer over ``input_size``.
    """

    def __init__(
        self, *, instance_size: int, input_size: int, output_size: int, reduction_ratio: float
    ) -> None:
        super().__init__()
        between = max(1, round(reduction_ratio * input_size))
        self.mask = nn.Sequential(
            nn.Linear(instance_size, between), nn.ReLU(), nn.Linear(between, input_size)
        )
        self.linear = nn.Linear(input_size, output_size, bias=False)
        self.norm = nn.LayerNorm(output_size)

    def forward(self, instance: Tensor, values: Tensor) -> Tensor:
        """``(..., instance_size)`` and ``(..., input_size)`` -> ``(..., output_size)``."""
        return torch.relu(self.norm(self.linear(self.mask(instance) * values)))
