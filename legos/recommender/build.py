"""Assembly: from the bricks that a model YAML names to a model."""

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
from legos.data.items import ItemField, ItemStore
from legos.data.ragged import Ragged
from legos.errors import ConfigError, nearest
from legos.lm.load import LanguageModel
from legos.recommender.model import Recommender
from legos.registry import (
    BrickConfig,
    PredictorConfig,
    Registry,
    UserEncoderConfig,
    item_encoders,
    predictors,
    refuse_unfit,
    user_encoders,
)


class ModelChoice(Protocol):
    """The part of a model YAML that names the bricks."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def item(self) -> BrickConfig: ...
    @property
    def user(self) -> UserEncoderConfig: ...
    @property
    def predictor(self) -> PredictorConfig: ...


class KnownEntities(Protocol):
    """What the training split has seen."""

    @property
    def items(self) -> Tensor:
        """``(items,)`` bool."""

    @property
    def users(self) -> Tensor:
        """``(users,)`` bool."""


_SOURCES = {
    "embeddings": "item fields: data.fields names none; an item encoder like `id` reads no content",
    "profile_embeddings": "user fields: name them in data.user_fields",
    "item_vectors": "given item vectors: name their file in embed.item_vectors",
    "user_vectors": "given user vectors: name their file in embed.user_vectors",
    "item_codes": "semantic codes: name their file in embed.item_codes",
    "click_graph": "a click graph, and what users say has none",
    "language_model": "a language model, and users have no texts for one yet",
}


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


def build_recommender(
    choice: ModelChoice,
    store: ItemStore,
    *,
    known: KnownEntities,
    seed: int,
    tables: Mapping[str, TokenTable] | None = None,
    embedding_dropout: float = 0.0,
    profiles: ItemStore | None = None,
    item_vectors: Tensor | None = None,
    user_vectors: Tensor | None = None,
    item_codes: Tensor | None = None,
    click_graph: Ragged | None = None,
    language_model: LanguageModel | None = None,
) -> Recommender:
    """Assemble the model a YAML describes.

    Args:
        choice: the bricks and the hidden size D.
        store: the items, for the fields that embeddings are needed for.
        known: items and users of the training split.
        seed: of the initial weights; the same seed gives the same weights.
        tables: pretrained vectors by vocabulary; others start at random.
        embedding_dropout: rate on token, category and number vectors.
        profiles: the users' fields.
        item_vectors: ``(items, E)`` float32 given vectors.
        user_vectors: ``(users, E)`` float32 given vectors.
        item_codes: ``(items, L)`` int64 semantic codes, -1 where an item has none.
        click_graph: a row an item, the items read before it in training, most frequent first.
        language_model: that reads ``store.language``.

    Raises:
        ConfigError: bricks or sizes that do not fit together, or something a brick needs is not
            there.
    """
    refuse_unfit(choice.user, choice.predictor)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tables, size = tables or {}, choice.hidden_size
        context: dict[str, Any] = {
            "hidden_size": size,
            "known_items": known.items,
            "known_users": known.users,
            **_embeddings(store, profiles, size, tables, embedding_dropout),
            "aspects": None,  # those of the item encoder, which is built first
            "item_vectors": item_vectors,
            "user_vectors": user_vectors,
            "item_codes": item_codes,
            "click_graph": click_graph,
            "language_model": language_model,
        }
        item = _build("model.item", item_encoders, choice.item, context)
        context["hidden_size"] = getattr(item, "output_size", size)
        context["aspects"] = getattr(item, "aspects", None)
        return Recommender(
            item_encoder=item,
            user_encoder=_build("model.user", user_encoders, choice.user, context),
            predictor=_build("model.predictor", predictors, choice.predictor, context),
            output=choice.user.output,
        )


def _build(
    key: str, registry: Registry, config: BrickConfig, context: Mapping[str, Any]
) -> nn.Module:
    """Build a brick; its errors name its place in the configuration."""
    try:
        return build_brick(registry, config, context)
    except ConfigError as error:
        raise ConfigError(f"{key} ({config.name}): {error}") from None


def build_brick(registry: Registry, config: BrickConfig, context: Mapping[str, Any]) -> nn.Module:
    """Instantiate a brick from its settings and from what the context offers.

    A setting that is itself the settings of a brick is built first and given under its name; an
    item encoder inside a user encoder reads the users' profiles. A brick can do without what has a
    default in its signature.

    Raises:
        ConfigError: the brick needs something that this run does not have, or asks for something
            that no run gives.
    """
    inside = _inside(config, context)
    try:
        nested = {
            key: _nested(registry, value, inside)
            for key, value in config
            if isinstance(value, BrickConfig)
        }
    except _NoFields:
        if not config.reads_texts_alone:
            raise
        raise ConfigError(
            f"{config.name} reads only texts, and data.fields names no text field; name one "
            "there, or choose a model that reads item ids, such as --model sasrec"
        ) from None
    brick, offered = registry.brick(config.name), {**context, **nested}
    given = {}
    for key, argument in list(inspect.signature(brick).parameters.items())[1:]:
        if offered.get(key) is not None:
            given[key] = offered[key]
        elif key not in offered and getattr(config, key, None) is not None:
            raise ConfigError(f"{brick.__name__} takes {key}, a setting: read settings.{key}")
        elif argument.default is argument.empty:
            if key not in offered:
                raise ConfigError(f"{brick.__name__} takes {key}, unknown; {nearest(key, offered)}")
            raise (_NoFields if key == "embeddings" else ConfigError)(
                f"{config.name} needs {_SOURCES[key]}"
            )
    module: nn.Module = brick(config, **given)
    return module


class _NoFields(ConfigError):
    """An item encoder reads item fields, and there are none."""


def _inside(config: BrickConfig, context: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a brick's own bricks are offered: of the item fields only texts, if it says so."""
    fields: FieldEmbeddings | None = context.get("embeddings")
    if not config.reads_texts_alone or fields is None:
        return context
    return {**context, "embeddings": fields.of_texts() if fields.text_fields else None}


def _nested(outer: Registry, config: BrickConfig, context: Mapping[str, Any]) -> nn.Module:
    if isinstance(config, UserEncoderConfig):
        return build_brick(user_encoders, config, context)
    if outer is user_encoders:
        if context["profile_embeddings"] is None:
            raise ConfigError(f"{config.name} needs {_SOURCES['profile_embeddings']}")
        context = {
            **context,
            "hidden_size": context["profile_embeddings"].hidden_size,
            "embeddings": context["profile_embeddings"],
            "known_items": context["known_users"],
            "item_vectors": None,
            "item_codes": None,
            "click_graph": None,
            "language_model": None,
        }
    return build_brick(item_encoders, config, context)


def _embeddings(
    store: ItemStore,
    profiles: ItemStore | None,
    hidden_size: int,
    tables: Mapping[str, TokenTable],
    dropout: float,
) -> dict[str, FieldEmbeddings | None]:
    """Vectors of item fields and of user fields, None where there are no fields.

    One vocabulary has one table in both.
    """
    users = {} if profiles is None else profiles.fields
    sizes = {
        field.vocabulary: field.size
        for field in (*store.fields.values(), *users.values())
        if field.number is None
    }
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

    def over(fields: Mapping[str, ItemField]) -> FieldEmbeddings | None:
        if not fields:
            return None
        names = {field.vocabulary: None for field in fields.values() if field.number is None}
        return FieldEmbeddings(
            fields=fields,
            vocabularies={name: vocabularies[name] for name in names},
            hidden_size=hidden_size,
            dropout=dropout,
        )

    return {"embeddings": over(store.fields), "profile_embeddings": over(users)}
