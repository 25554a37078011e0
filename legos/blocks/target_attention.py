"""DIN's attention: how much every item of a history matters to a candidate, by a small MLP.

Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018, section 4.3. The
paper feeds the MLP both vectors and their outer product; like the authors' released code it is
given both vectors, their difference and their element-wise product.
"""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.activations import ActivatedLayers, Activation
from legos.blocks.attention import masked_softmax
from legos.settings import Count, Settings


class TargetAttentionSettings(Settings):
    """Settings of DIN's attention."""

    attention_sizes: tuple[Count, ...] = Field((36,), min_length=1)
    """Hidden widths of the MLP that weighs an item (36 in the paper's figure 2)."""
    activation: Activation = "dice"
    """`dice` (the paper's, with running statistics), `prelu` or `relu`."""
    softmax: bool = False
    """Weights sum to one (not in the paper: they are to tell how strong an interest is)."""


class TargetAttention(nn.Module):
    """Sum of a history, every item weighted by its relevance to the candidate.

    The first layer is linear in ``[h, c, h - c, h * c]``, so all but the product is computed once
    an item and once a candidate, and the concatenation is never made.

    Args:
        hidden_size: D of the vectors.
    """

    def __init__(self, settings: TargetAttentionSettings, *, hidden_size: int) -> None:
        super().__init__()
        self.softmax = settings.softmax
        self.first = nn.Linear(4 * hidden_size, settings.attention_sizes[0])
        self.rest = ActivatedLayers(
            sizes=(*settings.attention_sizes, 1),
            activation=settings.activation,
            last_bias=not self.softmax,  # a softmax is blind to it
        )

    def forward(self, history: Tensor, candidates: Tensor, mask: Tensor) -> Tensor:
        """``(B, H, D)``, ``(B, C, D)`` and bool ``(B, H)`` -> ``(B, C, D)``; zeros for no item."""
        real = mask[:, :, None].expand(-1, -1, candidates.shape[1])  # (B, H, C)
        logits: Tensor = self.rest(self._first(history, candidates), real)[..., 0].mT  # (B, C, H)
        if self.softmax:
            return masked_softmax(logits, mask[:, None]) @ history
        return logits.where(mask[:, None], 0.0) @ history

    def _first(self, history: Tensor, candidates: Tensor) -> Tensor:
        """The first layer of every pair: ``(B, H, C, S)``."""
        batch, _, width = candidates.shape
        of_item, of_candidate, of_difference, of_product = self.first.weight.split(width, 1)
        item = F.linear(history, of_item + of_difference, self.first.bias)  # (B, H, S)
        candidate: Tensor = F.linear(candidates, of_candidate - of_difference)  # (B, C, S)
        scaled = (candidates[:, :, None] * of_product).view(batch, -1, width)  # (B, C * S, D)
        product: Tensor = history @ scaled.mT  # (B, H, C * S)
        pairs = item[:, :, None] + candidate[:, None]  # (B, H, C, S)
        return pairs + product.view_as(pairs)
