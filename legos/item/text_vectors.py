"""A vector of each item's texts by a frozen sentence encoder, computed once, projected.

The plain baseline of content-based recommendation; no single paper is followed. A vector is the
mean of the final states of a language model over an item's tokens, cached by its content.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from legos.blocks.dropout import Dropout
from legos.blocks.mlp import MLP
from legos.data.items import ItemBatch
from legos.item.language_model import LanguageModelSettings
from legos.lm.load import LanguageModel
from legos.lm.states import FINAL
from legos.registry import item_encoders
from legos.settings import Count


class TextVectorsConfig(LanguageModelSettings):
    name: Literal["text_vectors"] = "text_vectors"
    hidden_sizes: tuple[Count, ...] = ()
    """Widths of ReLU layers before the linear one to hidden_size; none: a linear projection."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Rate after every layer. On the vectors themselves, which are wide, it would cost six times as
    many random numbers, a third of a training step, for the same GAUC."""


@item_encoders.register(TextVectorsConfig)
class TextVectors(nn.Module):
    """Look up an item's vector, scale it to length 1, project it; the language model never runs."""

    def __init__(
        self, settings: TextVectorsConfig, *, language_model: LanguageModel, hidden_size: int
    ) -> None:
        super().__init__()
        self.dropout = Dropout(settings.dropout)
        self.project = MLP(
            language_model.output_width,
            settings.hidden_sizes,
            hidden_size,
            dropout=settings.dropout,
        )

    def forward(self, items: ItemBatch) -> Tensor:
        """Content of N items -> ``(N, D)``; an item without a word is a vector of zeros before."""
        weight = next(self.project.parameters())
        vectors = items.read(FINAL).to(weight.device).values.to(weight.dtype)  # (N, E)
        projected: Tensor = self.dropout(self.project(functional.normalize(vectors, dim=1)))
        return projected
