"""IISAN (SIGIR 2024): a side network over the cached states of all layers of a language model.

Fu et al., "IISAN: Efficiently Adapting Multimodal Representation for Sequential Recommendation with
Decoupled PEFT", SIGIR 2024, section 3; only its text tower. For every layer an adapter block reads
a gated sum of the block below and of that layer's mean-pooled state. The language model never runs.
The paper's LayerDrop is `layer_step`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from legos.data.items import ItemBatch
from legos.errors import ConfigError
from legos.item.language_model import LanguageModelSettings
from legos.lm.load import LanguageModel
from legos.lm.states import POOLED
from legos.registry import item_encoders


class IISANConfig(LanguageModelSettings):
    added: ClassVar[frozenset[str]] = frozenset({"quantised"})
    name: Literal["iisan"] = "iisan"
    layer_step: int = Field(1, ge=1)
    """Read every so manieth layer, counted from the last (2 in the paper)."""
    adapter_size: int = Field(64, ge=1)
    """Width of an adapter's bottleneck (64 in the paper)."""


@item_encoders.register(IISANConfig)
class IISAN(nn.Module):
    """Gated adapters over mean-pooled layers; the language model's weights are not loaded."""

    def __init__(
        self, settings: IISANConfig, *, language_model: LanguageModel, hidden_size: int
    ) -> None:
        super().__init__()
        self.width, depth = language_model.width, language_model.num_layers
        if language_model.output_width != self.width:
            raise ConfigError(
                f"{language_model.name}: its final states are {language_model.output_width} wide, "
                f"those of its layers {self.width}; the side network needs one width"
            )
        step = settings.layer_step
        self.layers = list(range(depth, -1, -step))[::-1]
        if len(self.layers) < 2:
            raise ConfigError(
                f"layer_step {step}: {language_model.name} has {depth} layers, so it is at "
                f"most {depth}"
            )
        steps = len(self.layers) - 1
        self.adapters = nn.ModuleList(
            Adapter(self.width, settings.adapter_size) for _ in range(steps)
        )
        self.gates = nn.Parameter(torch.zeros(steps))  # sigmoid(0): both count half
        self.project = nn.Linear(self.width, hidden_size)

    def forward(self, items: ItemBatch) -> Tensor:
        """Content of N items -> ``(N, D)``."""
        read = items.read(POOLED).to(self.project.weight.device).values
        pooled = read.unflatten(1, (-1, self.width))[:, self.layers]  # (N, layers, E)
        pooled = pooled.to(self.project.weight.dtype)
        state = pooled[:, 0]
        for step, adapter in enumerate(self.adapters):
            gate = self.gates[step].sigmoid()
            state = adapter(gate * state + (1 - gate) * pooled[:, step + 1])
        vectors: Tensor = self.project(state)
        return vectors


class Adapter(nn.Module):
    """Bottleneck with residual and layer norm: ``LN(x + W_up ReLU(W_down x))``."""

    def __init__(self, size: int, bottleneck: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(size, bottleneck), nn.Linear(bottleneck, size)
        self.norm = nn.LayerNorm(size)

    def forward(self, values: Tensor) -> Tensor:
        """``(..., E)`` -> ``(..., E)``."""
        normed: Tensor = self.norm(values + self.up(torch.relu(self.down(values))))
        return normed
