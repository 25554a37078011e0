"""The assembled model: the only place where item encoder, user encoder and predictor meet."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

import legos.item
import legos.predictor
import legos.user  # noqa: F401 - the three imports fill the registries
from legos.blocks.embedding import FieldEmbeddings, VocabularyEmbedding
from legos.blocks.packed import gather
from legos.data.batch import Batch
from legos.data.items import ItemBatch, ItemStore
from legos.errors import ConfigError
from legos.registry import BrickConfig, Registry, item_encoders, predictors, user_encoders


class ModelChoice(Protocol):
    """The part of a model YAML that names the bricks."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def item(self) -> BrickConfig: ...
    @property
    def user(self) -> BrickConfig: ...
    @property
    def predictor(self) -> BrickConfig: ...


@dataclass(frozen=True)
class TokenTable:
    """Pretrained vectors of one vocabulary.

    Attributes:
        vectors: ``(V, E)`` float32.
        frozen: keep them as they are.
        fingerprint: what they were made from; checkpoints remember it.
    """

    vectors: Tensor
    frozen: bool
    fingerprint: str


class Recommender(nn.Module):
    """Item encoder → user encoder → predictor.

    Args:
        item_encoder: content of N items -> ``(N, D)``.
        user_encoder: ``(B, H, D)`` and mask -> ``(B, D)``.
        predictor: ``(B, D)`` and ``(B, C, D)`` -> ``(B, C)``.
    """

    def __init__(
        self, *, item_encoder: nn.Module, user_encoder: nn.Module, predictor: nn.Module
    ) -> None:
        super().__init__()
        self.item_encoder = item_encoder
        self.user_encoder = user_encoder
        self.predictor = predictor

    def encode_items(self, items: ItemBatch) -> Tensor:
        """Content of N items -> ``(N, D)``."""
        vectors: Tensor = self.item_encoder(items)
        return vectors

    def encode_users(self, history: Tensor, mask: Tensor) -> Tensor:
        """Item vectors ``(B, H, D)`` and bool ``(B, H)`` -> ``(B, D)``."""
        vectors: Tensor = self.user_encoder(history, mask)
        return vectors

    def forward(self, batch: Batch, items: ItemBatch) -> Tensor:
        """Scores ``(B, C)`` of a batch whose distinct items have the content ``items``."""
        vectors = self.encode_items(items)  # (N, D)
        history = take(vectors, batch.history)  # (B, H, D)
        user = self.encode_users(history, batch.history_mask)
        scores: Tensor = self.predictor(user, take(vectors, batch.candidates))
        return scores  # (B, C)


def take(vectors: Tensor, index: Tensor) -> Tensor:
    """Rows of ``(N, D)`` at ``(...)`` positions -> ``(..., D)``."""
    return gather(vectors, index.reshape(-1)).view(*index.shape, vectors.shape[-1])


def build_recommender(
    choice: ModelChoice,
    store: ItemStore,
    *,
    known_items: Tensor,
    seed: int,
    tables: Mapping[str, TokenTable] | None = None,
    embedding_dropout: float = 0.0,
) -> Recommender:
    """Assemble the model a YAML describes.

    Args:
        choice: the bricks and the hidden size D.
        store: the items, for the fields that embeddings are needed for.
        known_items: ``(items,)`` bool, True = occurs in the training split.
        seed: of the initial weights; the same seed gives the same weights.
        tables: pretrained vectors by vocabulary; others start at random.
        embedding_dropout: rate on token and category vectors.

    Raises:
        ConfigError: sizes that do not fit together.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        context: dict[str, Any] = {
            "hidden_size": choice.hidden_size,
            "known_items": known_items,
            "embeddings": _embeddings(store, choice.hidden_size, tables or {}, embedding_dropout),
        }
        return Recommender(
            item_encoder=_build("model.item", item_encoders, choice.item, context),
            user_encoder=_build("model.user", user_encoders, choice.user, context),
            predictor=_build("model.predictor", predictors, choice.predictor, context),
        )


def _build(
    key: str, registry: Registry, config: BrickConfig, context: Mapping[str, Any]
) -> nn.Module:
    """A brick; what it refuses is told with its place in the configuration."""
    try:
        return build_brick(registry, config, context)
    except ConfigError as error:
        raise ConfigError(f"{key} ({config.name}): {error}") from None


def build_brick(registry: Registry, config: BrickConfig, context: Mapping[str, Any]) -> nn.Module:
    """Instantiate a brick from its settings and from what the context offers.

    A setting that is itself the settings of an item encoder is built first.
    """
    settings = {key: getattr(config, key) for key in type(config).model_fields if key != "name"}
    for key, value in settings.items():
        if isinstance(value, BrickConfig):
            settings[key] = build_brick(item_encoders, value, context)
    brick = registry.brick(config.name)
    needed = inspect.signature(brick).parameters
    shared = {key: value for key, value in context.items() if key in needed}
    module: nn.Module = brick(**shared, **settings)
    return module


def _embeddings(
    store: ItemStore, hidden_size: int, tables: Mapping[str, TokenTable], dropout: float
) -> FieldEmbeddings:
    sizes = {field.vocabulary: field.size for field in store.fields.values()}
    vocabularies = {
        name: VocabularyEmbedding(
            size=size,
            hidden_size=hidden_size,
            table=tables[name].vectors if name in tables else None,
            frozen=name in tables and tables[name].frozen,
            dropout=dropout,
        )
        for name, size in sizes.items()
    }
    return FieldEmbeddings(fields=store.fields, vocabularies=vocabularies, hidden_size=hidden_size)
