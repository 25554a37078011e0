"""Vectors of an item's texts by a frozen sentence encoder, computed once and projected.

The plain baseline of content-based recommendation; no single paper is followed. A sentence
encoder's own pooling and heads turn the tokens of an item into its vector; for other language
models it is the mean of the final states. Vectors are cached by content.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from legos.blocks.dropout import Dropout
from legos.blocks.experts import ProjectionSettings
from legos.data.items import ItemBatch
from legos.errors import ConfigError
from legos.item.language_model import LanguageModelSettings
from legos.lm.load import LanguageModel
from legos.lm.locate import is_here
from legos.lm.sentence import SentenceHead, shipped_files
from legos.lm.sentence_files import sentence_files
from legos.lm.states import FINAL
from legos.registry import item_encoders
from legos.settings import Count


class TextVectorsConfig(ProjectionSettings, LanguageModelSettings):
    name: Literal["text_vectors"] = "text_vectors"
    head: Literal["shipped", "mean"] = "shipped"
    """How final states become a vector: as the files of a sentence encoder say, or their mean."""
    dimensions: Count | None = None
    """Numbers of a vector that are kept (Matryoshka), then scaled to length 1; null: all."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Rate after every layer. On the vectors themselves, which are wide, it would cost six times as
    many random numbers, a third of a training step, for the same GAUC."""

    added: ClassVar[frozenset[str]] = (
        LanguageModelSettings.added | ProjectionSettings.added | {"head", "dimensions"}
    )

    def head_of(self, language_model: LanguageModel) -> SentenceHead | None:
        """The module that pools final states; None: their mean, also for other folders.

        Raises:
            ConfigError: see :func:`legos.lm.sentence.shipped_files`.
        """
        source = language_model.source
        if self.head == "mean" or source.random or not is_here(source):
            return None
        folder = language_model.located.folder
        found = None if language_model.located.gguf else sentence_files(folder)
        if found is None or found.is_plain_mean:
            return None
        return SentenceHead(shipped_files(language_model), language_model.output_width)

    def vector_width(self, language_model: LanguageModel) -> int:
        """E of a vector."""
        head = self.head_of(language_model)
        return language_model.output_width if head is None else head.width


@item_encoders.register(TextVectorsConfig)
class TextVectors(nn.Module):
    """Look up an item's vector, scale it to length 1, project it; the language model never runs."""

    def __init__(
        self, settings: TextVectorsConfig, *, language_model: LanguageModel, hidden_size: int
    ) -> None:
        super().__init__()
        self.dropout = Dropout(settings.dropout)
        width, self.kept = settings.vector_width(language_model), settings.dimensions
        if self.kept is not None and self.kept > width:
            raise ConfigError(
                f"dimensions {self.kept}: {language_model.name} makes vectors of {width} numbers"
            )
        self.project = settings.projection(
            self.kept or width, hidden_size, dropout=settings.dropout
        )

    def forward(self, items: ItemBatch) -> Tensor:
        """Content of N items -> ``(N, D)``; an item without a word is a vector of zeros before."""
        weight = next(self.project.parameters())
        vectors = items.read(FINAL).to(weight.device).values.to(weight.dtype)  # (N, E)
        kept = functional.normalize(vectors[:, : self.kept], dim=1)
        projected: Tensor = self.dropout(self.project(kept))
        return projected
