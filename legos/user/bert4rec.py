"""BERT4Rec (CIKM 2019): bidirectional self-attention over the history and a mask token after it.

Sun et al., "BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from
Transformer", CIKM 2019 (arXiv:1904.06690), section 3: layers as BERT's, then equation 7's
``gelu(h W + b)`` with a layer norm after it, as in the authors' code, against the item vectors.
Training hides clicks of a user's sequence and predicts them from both sides (section 3.6, the Cloze
task; ``legos.data.cloze``). In some sequences it hides only the last click, as a recommendation
does.

Equation 7 also adds a bias per item, which new items would not have. It is left out, as is dropout
on attention weights.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.attention import LearnedPositions, refuse_longer
from legos.blocks.packed import LengthBuckets, gather, without_padding
from legos.blocks.transformer import Transformer, TransformerSettings
from legos.registry import Cloze, UserEncoderConfig, user_encoders

_STD = 0.02  # of initial weights, cut at twice as much: BERT's code


class BERT4RecConfig(UserEncoderConfig):
    name: Literal["bert4rec"] = "bert4rec"
    num_layers: int = Field(2, ge=1)
    """Transformer layers (2 in the paper)."""
    num_heads: int = Field(2, ge=1)
    """Heads of the self-attention; must divide hidden_size (2 in the paper)."""
    feed_forward_size: int | None = Field(None, ge=1)
    """Width of the feed-forward part's hidden layer; null: 4 * hidden_size (the paper)."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Rate on the input, on the output of each part and inside the feed-forward part."""
    mask_probability: float = Field(0.2, gt=0, lt=1)
    """Share of a sequence's clicks that training hides, at least one (0.2 in the paper on
    MovieLens, 0.4 on Steam, 0.6 on Beauty)."""
    last_share: float = Field(0.1, ge=0, le=1)
    """Share of sequences of which training hides the last click alone (1 beside 10 others in the
    authors' code; 0.5 in RecBole)."""
    positions: Literal["oldest", "newest"] = "oldest"
    """Where positions count from: the oldest item, as in the authors' code, or the newest."""
    max_history: int = Field(100, ge=1)
    """Longest history that there are positions for; set it as data cuts histories."""

    @property
    def cloze(self) -> Cloze:
        """How training hides clicks."""
        return Cloze(self.mask_probability, self.last_share)


@user_encoders.register(BERT4RecConfig)
class BERT4Rec(nn.Module):
    """Read a mask token after the history; its output is the user."""

    order_aware = True

    def __init__(self, settings: BERT4RecConfig, *, hidden_size: int) -> None:
        super().__init__()
        self.max_history = settings.max_history
        self.mask_token = nn.Parameter(torch.empty(hidden_size))
        self.positions = LearnedPositions(
            count=settings.max_history + 1,
            size=hidden_size,
            from_end=settings.positions == "newest",
            setting="max_history",
        )
        self.norm = nn.LayerNorm(hidden_size)
        self.transformer = Transformer(
            TransformerSettings.model_validate(
                {
                    "num_layers": settings.num_layers,
                    "num_heads": settings.num_heads,
                    "feed_forward_size": settings.feed_forward_size,
                    "dropout": settings.dropout,
                }
            ),
            hidden_size=hidden_size,
        )
        self.output = nn.Linear(hidden_size, hidden_size)
        self.output_norm = nn.LayerNorm(hidden_size)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                _start(module.weight)
                nn.init.zeros_(module.bias)
        _start(self.mask_token)

    def forward(self, history: Tensor, mask: Tensor) -> Tensor:
        """``(B, H, D)`` and bool ``(B, H)`` -> ``(B, D)``, the item that comes next.

        Raises:
            ConfigError: H is more than ``max_history``.
        """
        asked = mask.new_ones(len(mask), 1)
        return self.fill(
            torch.cat([history, history.new_zeros(len(history), 1, history.shape[2])], 1),
            torch.cat([mask, asked], 1),
            torch.cat([torch.zeros_like(mask), asked], 1),
        )

    def fill(self, history: Tensor, mask: Tensor, blanks: Tensor) -> Tensor:
        """The items at blanks, from the others of their sequence.

        Args:
            history: ``(S, H, D)``; what it holds at a blank is not read.
            mask: bool ``(S, H)``, blanks included.
            blanks: bool ``(S, H)``, B in all.

        Returns:
            ``(B, D)``, sequence after sequence.

        Raises:
            ConfigError: H is more than ``max_history`` and a blank.
        """
        refuse_longer(history.shape[1] - 1, self.max_history, setting="max_history")
        shown = self.mask_token.to(history.dtype).where(blanks[..., None], history)
        tokens = without_padding(shown, mask)
        within = LengthBuckets(tokens.numbers)
        values = self.norm(self.positions(tokens.distinct, within))  # (P, D)
        states = gather(self.transformer(values, within), blanks[mask].nonzero()[:, 0])  # (B, D)
        filled: Tensor = self.output_norm(F.gelu(self.output(states)))
        return filled


def _start(weight: Tensor) -> None:
    nn.init.trunc_normal_(weight, std=_STD, a=-2 * _STD, b=2 * _STD)
