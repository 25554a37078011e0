"""LSTUR (ACL 2019): a CNN with attention for each text field; all fields concatenated.

An et al., "Neural News Recommendation with Long- and Short-term User Representations", ACL 2019
(P19-1033), section 3.1: the title by convolution and additive attention, topic and subtopic by
embedding, concatenated. Here every text field has a convolution and an attention of its own, and
every field is hidden_size wide. Legommenders' ``CNNCat`` has one convolution, one attention and
one linear layer that all its fields share; ``category_projection`` is the linear layer, one for
each field.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from legos.blocks.attention import AdditiveAttention
from legos.blocks.dropout import Dropout
from legos.blocks.embedding import FieldEmbeddings, module_key
from legos.blocks.packed import PackedConvolution
from legos.data.items import ItemBatch
from legos.registry import BrickConfig, item_encoders


class CNNConcatConfig(BrickConfig):
    name: Literal["cnn_concat"] = "cnn_concat"
    kernel_size: int = Field(3, ge=1)
    """Tokens a filter sees; odd (3 in the paper)."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Rate after the convolution (0.2 in the paper)."""
    attention_size: int = Field(200, ge=1)
    """Width of the additive attention's tanh layer (200 in the paper)."""
    category_projection: bool = False
    """A linear layer over each category vector (not in the paper; Legommenders has one)."""
    project: bool = False
    """Bring the item vector to hidden_size by a linear layer; otherwise it is as many times
    hidden_size wide as there are fields, and so is the user vector."""


@item_encoders.register(CNNConcatConfig)
class CNNConcat(nn.Module):
    """Convolution over words, D filters, attention over positions, concatenation of fields."""

    def __init__(
        self, settings: CNNConcatConfig, *, embeddings: FieldEmbeddings, hidden_size: int
    ) -> None:
        super().__init__()
        self.embeddings = embeddings
        texts = [module_key(name) for name in embeddings.text_fields]
        categories = [module_key(name) for name in embeddings.category_fields]
        self.convolutions = nn.ModuleDict()
        for name in texts:
            self.convolutions[name] = PackedConvolution(
                input_size=hidden_size, output_size=hidden_size, kernel_size=settings.kernel_size
            )
        self.dropout = Dropout(settings.dropout)
        self.word_attention = nn.ModuleDict(
            {name: AdditiveAttention(hidden_size, settings.attention_size) for name in texts}
        )
        dense = nn.Linear if settings.category_projection else nn.Identity
        self.dense = nn.ModuleDict({name: dense(hidden_size, hidden_size) for name in categories})
        width = (len(texts) + len(categories)) * hidden_size
        self.project = nn.Linear(width, hidden_size) if settings.project else nn.Identity()
        self.output_size = hidden_size if settings.project else width

    def forward(self, items: ItemBatch) -> Tensor:
        """Content of N items -> ``(N, output_size)``; zeros in the place of an empty text."""
        fields = []
        for name in self.embeddings.text_fields:
            tokens = self.embeddings.text(name, items)
            convolved = self.convolutions[module_key(name)](tokens)
            contextual = self.dropout(torch.relu(convolved))  # (P, D)
            attention = cast(AdditiveAttention, self.word_attention[module_key(name)])
            fields.append(attention.packed(contextual, tokens.rows, len(items)))
        for name in self.embeddings.category_fields:
            dense = self.dense[module_key(name)]
            fields.append(dense(self.embeddings.category(name, items)))
        result: Tensor = self.project(torch.cat(fields, 1))  # from (N, F * D)
        return result
