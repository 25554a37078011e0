"""HSTU (ICML 2024): pointwise attention over the history, read off at the newest item.

Zhai et al., "Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for
Generative Recommendations", ICML 2024 (arXiv:2402.17152), section 3.2, equations 1 to 3:
``U, V, Q, K = split(silu(f1(norm(x))))``, ``A V = silu(Q K^T + rab) V / L`` for what came before,
``y = x + f2(norm(A V) * U)``. As in the authors' code norms learn nothing, f1 has no bias, items
are multiplied by the square root of their width before positions are added, L is the longest
history, and dropout is on the input and before f2.

``rab`` is the bias by relative position. The paper's other half, a bias by the time between two
actions, is left out: tables say when an impression was, not when each item of a history was.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.attention import LearnedPositions, head_width
from legos.blocks.causal import CausalBlocks
from legos.blocks.causal_states import CausalStates
from legos.blocks.dropout import Dropout
from legos.registry import UserEncoderConfig, user_encoders

_STD = 0.02  # of the authors' projections and biases
_EPS = 1e-6  # of their norms; sums over short histories are small


class HSTUConfig(UserEncoderConfig):
    name: Literal["hstu"] = "hstu"
    num_layers: int = Field(2, ge=1)
    """Layers (2 in the authors' base models, 8 in HSTU-large on MovieLens-1M)."""
    num_heads: int = Field(1, ge=1)
    """Heads; must divide hidden_size (1 in the base models on MovieLens, 4 on Amazon Books)."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Rate on the input and before the last product of a layer (0.2; 0.5 on Amazon Books)."""
    positions: bool = True
    """Add a learned vector of the place from the oldest item, as the authors' code does beside the
    relative bias."""
    max_history: int = Field(100, ge=1)
    """Longest history that there are positions for; set it as data cuts histories."""

    @property
    def reads_prefixes(self) -> bool:
        """True: an output depends only on earlier items."""
        return True


@user_encoders.register(HSTUConfig)
class HSTU(CausalStates):
    """Read the history, oldest first; the output at the newest item is the user."""

    order_aware = True

    def __init__(self, settings: HSTUConfig, *, hidden_size: int) -> None:
        super().__init__()
        self.max_history, self.scale = settings.max_history, hidden_size**0.5
        self.positions = (
            LearnedPositions(
                count=settings.max_history, size=hidden_size, from_end=False, setting="max_history"
            )
            if settings.positions
            else None
        )
        self.dropout = Dropout(settings.dropout)
        self.layers = nn.ModuleList(
            HSTULayer(
                hidden_size=hidden_size,
                num_heads=settings.num_heads,
                dropout=settings.dropout,
                longest=settings.max_history,
            )
            for _ in range(settings.num_layers)
        )

    def read(self, values: Tensor, within: CausalBlocks) -> Tensor:
        """Scaled items ``(P, D)`` -> outputs ``(P, D)``."""
        if self.positions is not None:
            values = self.positions(values, within)
        values = self.dropout(values)
        for layer in self.layers:
            values = layer(values, within)
        return values


class HSTULayer(nn.Module):
    """Equations 1 to 3 and the sum around them.

    Args:
        num_heads: must divide ``hidden_size``.
        dropout: rate before the last product.
        longest: L, distances that have a bias, and what sums over a history are divided by.
    """

    def __init__(self, *, hidden_size: int, num_heads: int, dropout: float, longest: int) -> None:
        super().__init__()
        head_width(hidden_size, num_heads)  # refuses what does not divide
        self.project = nn.Parameter(torch.randn(4 * hidden_size, hidden_size) * _STD)
        self.bias = nn.Parameter(torch.randn(num_heads, longest) * _STD)
        self.output = nn.Linear(hidden_size, hidden_size)
        nn.init.xavier_uniform_(self.output.weight)
        self.dropout = Dropout(dropout)

    def forward(self, values: Tensor, within: CausalBlocks) -> Tensor:
        """``(P, D)`` -> ``(P, D)``."""
        size = values.shape[1]
        projected = F.silu(
            F.linear(F.layer_norm(values, [size], eps=_EPS), self.project)
        )  # (P, 4D)
        gate, query, key_value = projected.split([size, size, 2 * size], 1)
        attended = within.attend_pointwise(query, key_value, self.bias) / self.bias.shape[1]
        result: Tensor = values + self.output(
            self.dropout(gate * F.layer_norm(attended, [size], eps=_EPS))
        )
        return result
