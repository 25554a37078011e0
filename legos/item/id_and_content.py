"""The sum of a content vector and, for known items, a learned ID vector.

The content encoder describes every item. For items that training has seen, a learned ID vector adds
which items are read together. With ID dropout the content vector also learns to work alone, as cold
items need it (Volkovs, Yu and Poutanen, "DropoutNet", NeurIPS 2017).
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import BeforeValidator, Field, SerializeAsAny
from torch import Tensor, nn

from legos.data.items import ItemBatch
from legos.item.id import ID, IDConfig
from legos.registry import BrickConfig, item_encoders


class IDAndContentConfig(BrickConfig):
    name: Literal["id_and_content"] = "id_and_content"
    content: SerializeAsAny[Annotated[BrickConfig, BeforeValidator(item_encoders.validate)]]
    """The item encoder that reads the content."""
    id_dropout: float = Field(0.3, ge=0, lt=1)
    """How often a training item goes without its ID vector."""
    fusion: Literal["sum", "concat"] = "sum"
    """`sum` of both vectors, or a linear layer over both (`concat`)."""


@item_encoders.register(IDAndContentConfig)
class IDAndContent(nn.Module):
    """Fuse a content vector with an ID vector as wide; ``known_items`` ``(items,)`` bool."""

    def __init__(
        self,
        settings: IDAndContentConfig,
        *,
        content: nn.Module,
        known_items: Tensor,
        hidden_size: int,
    ) -> None:
        super().__init__()
        self.content = content
        self.output_size: int = getattr(content, "output_size", hidden_size)
        self.id = ID(
            IDConfig(id_dropout=settings.id_dropout),
            known_items=known_items,
            hidden_size=self.output_size,
        )
        width = self.output_size
        self.fuse = nn.Linear(2 * width, width) if settings.fusion == "concat" else None

    def forward(self, items: ItemBatch) -> Tensor:
        """Content and ids of N items -> ``(N, output_size)``."""
        content, identity = self.content(items), self.id(items)
        fused: Tensor = (
            content + identity
            if self.fuse is None
            else self.fuse(torch.cat([content, identity], 1))
        )
        return fused
