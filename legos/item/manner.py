"""MANNeR (EMNLP 2024): a text encoder trained on clicks, and one for each category field.

Iana, Glavaš and Paulheim, "Train Once, Use Flexibly: A Modular Framework for Multi-Aspect Neural
News Recommendation", Findings of EMNLP 2024 (arXiv:2307.16089): the CR-Module is
trained on clicks; each A-Module has an encoder of its own, which a supervised contrastive loss
trains to bring items with the same category (sentiment, or any other label) together. All encoders
read only texts. With user encoder ``pooling`` (late fusion) and predictor ``manner`` it is the
paper's model.

The authors train each module in its own run. Here all modules take their steps together. They share
no parameter, so with Adam none changes another; but gradients are clipped by their common norm, and
early stopping chooses one epoch for all. Encoders start from the same weights. As with the authors'
sampler, a step draws some labels and some training items of each; an item drawn twice counts once.
Entities are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import BeforeValidator, Field, SerializeAsAny
from torch import Tensor, nn

from legos.blocks.contrastive import supervised_contrastive_loss
from legos.blocks.embedding import FieldEmbeddings
from legos.data.items import ItemBatch
from legos.errors import ConfigError, nearest
from legos.registry import BrickConfig, item_encoders


class MannerConfig(BrickConfig):
    name: Literal["manner"] = "manner"
    encoder: SerializeAsAny[Annotated[BrickConfig, BeforeValidator(item_encoders.validate)]]
    """The item encoder that the CR-Module and every A-Module have one of."""
    aspects: tuple[str, ...] | None = None
    """Category fields that have an A-Module; null: all of the data YAML, which must name one; []:
    none, so the model learns from clicks alone."""
    temperature: float = Field(0.9, gt=0)
    """What inner products of two items are divided by (0.9 in the authors' settings)."""
    labels: int = Field(17, ge=2)
    """Labels of an aspect that a step compares, at most (17 categories in the authors')."""
    items_per_label: int = Field(5, ge=2)
    """Items of each (5 in the authors' settings)."""

    reads_texts_alone: ClassVar[bool] = True


@item_encoders.register(MannerConfig)
class Manner(nn.Module):
    """Encode every item 1 + A times.

    Args:
        encoder: of the CR-Module; A-Modules get copies.
        embeddings: vectors of every item field, of which category fields may be aspects.
        hidden_size: D of each encoder.

    Attributes:
        aspects: names of the A category fields.
        output_size: (1 + A) D.

    Raises:
        ConfigError: an aspect is no category field, or there is none for ``aspects: null``.
    """

    def __init__(
        self,
        settings: MannerConfig,
        *,
        encoder: nn.Module,
        embeddings: FieldEmbeddings,
        hidden_size: int,
    ) -> None:
        super().__init__()
        fields = [
            name for name in embeddings.category_fields if embeddings.fields[name].number is None
        ]
        if settings.aspects is None and not fields:
            raise ConfigError(
                "aspects: null takes every category field, and data.fields names none; name a "
                "category field there, or set model.item.aspects to [] to train on clicks alone"
            )
        self.aspects = tuple(fields) if settings.aspects is None else settings.aspects
        for name in self.aspects:
            if name not in fields:
                raise ConfigError(f"aspects: no category field {name!r}; {nearest(name, fields)}")
        self.temperature = settings.temperature
        self.content = encoder
        self.modules_of_aspects = nn.ModuleList(_own_copy(encoder) for _ in self.aspects)
        self.size: int = getattr(encoder, "output_size", hidden_size)
        self.output_size = self.size * (1 + len(self.aspects))

    def forward(self, items: ItemBatch) -> Tensor:
        """Content of N items -> ``(N, (1 + A) D)``."""
        encoders = (self.content, *self.modules_of_aspects)
        return torch.cat([encoder(items) for encoder in encoders], 1)

    def clicked(self, items: ItemBatch) -> Tensor:
        """Encode items with zeros in place of the aspects, which clicks do not train."""
        content: Tensor = self.content(items)
        return nn.functional.pad(content, (0, self.output_size - self.size))

    def label_loss(self, labelled: Sequence[ItemBatch]) -> Tensor:
        """The sum over aspects of the contrastive loss of each on items of its own, ``()``."""
        losses = [
            supervised_contrastive_loss(encoder(items), items.categories[name], self.temperature)
            for name, encoder, items in zip(
                self.aspects, self.modules_of_aspects, labelled, strict=True
            )
        ]
        return torch.stack(losses).sum()


def _own_copy(encoder: nn.Module) -> nn.Module:
    """Copy an encoder with its own parameters; untrained ones are shared in memory."""
    frozen = {id(each): each for each in encoder.parameters() if not each.requires_grad}
    return deepcopy(encoder, frozen)
