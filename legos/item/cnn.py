"""NAML (IJCAI 2019): a CNN with attention for each text field, then attention over the fields.

Wu et al., "Neural News Recommendation with Attentive Multi-View Learning", IJCAI 2019
(arXiv:1907.05576), section 3.1: title and body by CNN + additive attention, category and
subcategory by embedding + dense layer, the four views pooled by additive attention.

``form: sequence`` is Legommenders' version of it: one convolution and one linear layer shared by
all fields, whose outputs form one sequence under a single additive attention.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.attention import AdditiveAttention
from legos.blocks.dropout import Dropout
from legos.blocks.embedding import FieldEmbeddings, module_key
from legos.blocks.packed import PackedConvolution, PackedTokens, concatenate, one_token_each
from legos.data.items import ItemBatch
from legos.data.ragged import Ragged
from legos.registry import BrickConfig, item_encoders


class CNNConfig(BrickConfig):
    name: Literal["cnn"] = "cnn"
    kernel_size: int = Field(3, ge=1)
    """Tokens a filter sees; odd (3 in the paper)."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Rate after the convolution (0.2 in the paper)."""
    attention_size: int = Field(200, ge=1)
    """Width of the additive attention's tanh layer (200 in the paper)."""
    form: Literal["views", "sequence"] = "views"
    """`views`: the paper; `sequence`: all fields in one sequence, as Legommenders does."""


@item_encoders.register(CNNConfig)
class CNN(nn.Module):
    """Convolution over words, D filters, attention over positions, attention over fields."""

    def __init__(
        self, settings: CNNConfig, *, embeddings: FieldEmbeddings, hidden_size: int
    ) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.form = settings.form
        texts = [module_key(name) for name in embeddings.text_fields]
        categories = [module_key(name) for name in embeddings.category_fields]
        shared = settings.form == "sequence"

        def convolution() -> nn.Module:
            return PackedConvolution(
                input_size=hidden_size, output_size=hidden_size, kernel_size=settings.kernel_size
            )

        def attention() -> AdditiveAttention:
            return AdditiveAttention(hidden_size, settings.attention_size)

        text_parts = ["all"][: len(texts)] if shared else texts
        category_parts = ["all"][: len(categories)] if shared else categories
        self.convolutions = nn.ModuleDict({name: convolution() for name in text_parts})
        self.dense = nn.ModuleDict(
            {name: nn.Linear(hidden_size, hidden_size) for name in category_parts}
        )
        self.word_attention = nn.ModuleDict(
            {name: attention() for name in ([] if shared else texts)}
        )
        self.dropout = Dropout(settings.dropout)
        several = shared or len(texts) + len(categories) > 1
        self.view_attention = attention() if several else None

    def forward(self, items: ItemBatch) -> Tensor:
        """Content of N items -> ``(N, D)``."""
        return self._views(items) if self.form == "views" else self._sequence(items)

    def _views(self, items: ItemBatch) -> Tensor:
        views, present = [], []
        for name in self.embeddings.text_fields:
            tokens = self.embeddings.text(name, items)
            contextual = self._convolve(name, tokens)  # (P, D)
            attention = cast(AdditiveAttention, self.word_attention[module_key(name)])
            views.append(attention.packed(contextual, tokens.rows, len(items)))
            present.append(tokens.numbers.lengths > 0)
        for name in self.embeddings.category_fields:
            dense = self.dense[module_key(name)]
            views.append(torch.relu(dense(self.embeddings.category(name, items))))
            present.append(torch.ones_like(items.ids, dtype=torch.bool))
        if self.view_attention is None:
            return views[0]
        pooled: Tensor = self.view_attention(torch.stack(views, 1), torch.stack(present, 1))
        return pooled  # (N, D)

    def _sequence(self, items: ItemBatch) -> Tensor:
        parts = []
        for name in self.embeddings.text_fields:
            tokens = self.embeddings.text(name, items)
            position = torch.arange(tokens.index.numel(), device=tokens.index.device)
            convolved = self._convolve("all", tokens)
            parts.append(PackedTokens(convolved, Ragged(position, tokens.offsets)))
        for name in self.embeddings.category_fields:
            parts.append(one_token_each(self.dense["all"](self.embeddings.category(name, items))))
        sequence = concatenate(parts)
        attention = cast(AdditiveAttention, self.view_attention)
        return attention.packed(sequence.vectors, sequence.rows, sequence.num_items)

    def _convolve(self, name: str, tokens: PackedTokens) -> Tensor:
        convolved: Tensor = self.dropout(torch.relu(self.convolutions[module_key(name)](tokens)))
        return convolved
