"""Transformer layers over the history; with the candidate at its end, BST (DLP-KDD 2019).

Chen et al., "Behavior Sequence Transformer for E-commerce Recommendation in Alibaba", DLP-KDD 2019
(arXiv:1905.06874), section 2: BST is this with ``candidate``, whose defaults here are one layer,
normalisation after each sum and LeakyReLU. Three things differ. Its positions come from the time
between click and recommendation; here a position counts how many items ago, because data need not
have times. It flattens the outputs of a history of fixed length into an MLP; histories have any
length here, so that the output at the candidate is kept, or what ``pooling`` says, and the
predictor scores it with the candidate. And a position has the width of an item and is added to it,
where the paper's is concatenated.

Without ``candidate`` users are encoded once, as by Legommenders' ``Transformer``.
"""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.attention import AdditiveAttention, LearnedPositions, last_real, refuse_longer
from legos.blocks.transformer import Activation, Transformer, TransformerSettings
from legos.data.batch import BatchUsers
from legos.registry import UserEncoderConfig, UserOutput, user_encoders

Pooling = Literal["additive_attention", "mean", "last"]


class TransformerConfig(TransformerSettings, UserEncoderConfig):
    name: Literal["transformer"] = "transformer"
    num_layers: int = Field(1, ge=1)
    """Transformer layers (1 in BST; 3 in Legommenders)."""
    activation: Activation = "leaky_relu"
    """Of the feed-forward part (`leaky_relu` in BST)."""
    candidate: bool = False
    """Put the candidate at the end of the history, as BST does: a user vector a candidate."""
    pooling: Pooling | None = None
    """How outputs become one vector; `last` is the candidate's where there is one. Null: `last`
    with the candidate, `additive_attention` without."""
    causal: bool = False
    """An item sees what stands before it alone."""
    positions: Literal["newest", "oldest"] = "newest"
    """Where positions count from: the newest item or the oldest."""
    max_history: int = Field(100, ge=1)
    """Longest history that there are positions for; set it as data cuts histories."""

    @property
    def reads_prefixes(self) -> bool:
        """True if no output depends on later items: causal, oldest, and pooling last or mean."""
        followed = self.candidate or self.positions == "newest" or not self.causal
        return not followed and self.pooling in ("last", "mean")

    @property
    def output(self) -> UserOutput:
        """One vector; one for each candidate with ``candidate``."""
        return "vector_per_candidate" if self.candidate else "vector"


@user_encoders.register(TransformerConfig)
class TransformerUser(nn.Module):
    """Relate the items of a history to each other and to the candidate, then pool them."""

    order_aware = True

    def __init__(self, settings: TransformerConfig, *, hidden_size: int) -> None:
        super().__init__()
        self.candidate = settings.candidate
        self.pooling = settings.pooling or ("last" if settings.candidate else "additive_attention")
        self.max_history = settings.max_history
        self.transformer = Transformer(
            settings,
            hidden_size=hidden_size,
            positions=LearnedPositions(
                count=settings.max_history + settings.candidate,
                size=hidden_size,
                from_end=settings.positions == "newest",
                setting="max_history",
            ),
            causal=settings.causal,
        )
        pooled = self.pooling == "additive_attention"
        self.attention = AdditiveAttention(hidden_size, settings.attention_size) if pooled else None

    def forward(self, history: Tensor, mask: Tensor, users: BatchUsers) -> Tensor:
        """``(B, H, D)``, bool ``(B, H)`` and users -> ``(B, D)``; zeros for an empty history.

        With ``candidate`` -> ``(B, C, D)``, where an empty history leaves the candidate.

        Raises:
            ConfigError: H is more than ``max_history``.
        """
        refuse_longer(history.shape[1], self.max_history, setting="max_history")
        if not self.candidate:
            return self._pool(self.transformer(history, mask), mask)
        if users.candidates is None:
            raise ValueError("the users come without candidates, and this encoder needs them")
        count = users.candidates.shape[1]
        sequence = torch.cat(
            [history[:, None].expand(-1, count, -1, -1), users.candidates[:, :, None]], 2
        )  # (B, C, H + 1, D)
        sequence = rearrange(sequence, "b c s d -> (b c) s d")
        real = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)  # (B, H + 1)
        real = real.repeat_interleave(count, 0)  # (B * C, H + 1)
        user = self._pool(self.transformer(sequence, real), real)  # (B * C, D)
        return user.view(-1, count, user.shape[1])

    def states(self, history: Tensor, mask: Tensor) -> Tensor:
        """``(B, H, D)`` and bool ``(B, H)`` -> ``(P, D)`` after all real items.

        Raises:
            ConfigError: H is more than ``max_history``.
        """
        refuse_longer(history.shape[1], self.max_history, setting="max_history")
        states = self.transformer(history, mask)  # (B, H, D)
        if self.pooling == "mean":
            states = states.cumsum(1) / mask.cumsum(1).clamp(min=1)[..., None]
        after: Tensor = states[mask]
        return after

    def _pool(self, values: Tensor, mask: Tensor) -> Tensor:
        """``(B, S, D)``, zeros under the mask -> ``(B, D)``; zeros where all is masked."""
        if self.attention is not None:
            pooled: Tensor = self.attention(values, mask)
            return pooled
        if self.pooling == "last":
            return last_real(values, mask)
        return values.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
