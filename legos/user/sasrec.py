"""SASRec (ICDM 2018): causal self-attention over the history, read off at the newest item.

Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018 (arXiv:1808.09781), section
III. The paper pads on the left, so that a position counts from the newest item. Each part g of a
block gives ``x + dropout(g(norm(x)))``; the heads have no linear layer after them and the
feed-forward part is as wide as the items. Item vectors come from the item encoder.

``variant: released`` is the authors' code: it normalises the queries but neither keys nor values,
adds the normalised input instead of the input to the output of a part, normalises the output of the
last block, and multiplies items by the square root of their width before positions are added, as
Vaswani et al. do. Its dropout on attention weights is in neither variant.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from legos.blocks.attention import LearnedPositions, MultiHeadSelfAttention
from legos.blocks.causal import CausalBlocks
from legos.blocks.causal_states import CausalStates
from legos.blocks.dropout import Dropout
from legos.blocks.packed import Within
from legos.blocks.transformer import FeedForward, Transformer, TransformerSettings
from legos.registry import UserEncoderConfig, user_encoders


class SASRecConfig(UserEncoderConfig):
    name: Literal["sasrec"] = "sasrec"
    num_layers: int = Field(2, ge=1)
    """Self-attention blocks (2 in the paper)."""
    num_heads: int = Field(1, ge=1)
    """Heads of the self-attention; must divide hidden_size (1 in the paper)."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Rate on the input and within the blocks (0.2 in the paper on MovieLens, 0.5 elsewhere)."""
    variant: Literal["paper", "released"] = "paper"
    """What is scaled, normalised and added: as in the paper or in the authors' released code."""
    positions: Literal["newest", "oldest"] = "newest"
    """Where positions count from: the newest item, as in the paper, or the oldest, so that what
    stands before an item does not depend on what follows (`exp.train.sequences`)."""
    max_history: int = Field(100, ge=1)
    """Longest history that there are positions for; set it as data cuts histories."""

    @property
    def reads_prefixes(self) -> bool:
        """True if positions count from the oldest item."""
        return self.positions == "oldest"


@user_encoders.register(SASRecConfig)
class SASRec(CausalStates):
    """Read the history, oldest first; the output at the newest item is the user."""

    order_aware = True

    def __init__(self, settings: SASRecConfig, *, hidden_size: int) -> None:
        super().__init__()
        self.max_history = settings.max_history
        self.scale = hidden_size**0.5 if settings.variant == "released" else 1.0
        self.transformer = Transformer(
            TransformerSettings.model_validate(
                {
                    "num_layers": settings.num_layers,
                    "num_heads": settings.num_heads,
                    "feed_forward_size": hidden_size,
                    "dropout": settings.dropout,
                    "activation": "relu",
                    "norm": "pre",
                }
            ),
            hidden_size=hidden_size,
            positions=LearnedPositions(
                count=settings.max_history,
                size=hidden_size,
                from_end=settings.positions == "newest",
                setting="max_history",
            ),
            causal=True,
            output_projection=False,
            final_norm=settings.variant == "released",
        )
        if settings.variant == "released":
            self.transformer.layers = nn.ModuleList(
                ReleasedLayer(
                    hidden_size=hidden_size, num_heads=settings.num_heads, dropout=settings.dropout
                )
                for _ in range(settings.num_layers)
            )

    def read(self, values: Tensor, within: CausalBlocks) -> Tensor:
        """Scaled items ``(P, D)`` -> outputs ``(P, D)``."""
        states: Tensor = self.transformer(values, within)
        return states


class ReleasedLayer(nn.Module):
    """A block of the released code.

    Args:
        num_heads: must divide ``hidden_size``.
        dropout: rate on the output of each part and inside the feed-forward part.
    """

    def __init__(self, *, hidden_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(hidden_size)
        self.self_attention = MultiHeadSelfAttention(
            hidden_size=hidden_size, num_heads=num_heads, causal=True
        )
        self.feed_forward_norm = nn.LayerNorm(hidden_size)
        self.feed_forward = FeedForward(
            hidden_size=hidden_size, width=hidden_size, dropout=dropout, activation="relu"
        )
        self.dropout = Dropout(dropout)

    def forward(self, values: Tensor, within: Within) -> Tensor:
        """``(..., D)`` -> ``(..., D)``; anything finite under a mask."""
        queries = self.query_norm(values)
        values = queries + self.dropout(self.self_attention(values, within, queries))
        values = self.feed_forward_norm(values)
        result: Tensor = values + self.dropout(self.feed_forward(values))
        return result
