"""What the bricks of a model read, told by the arguments that their classes ask for."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from legos.config.checks import FAMILIES, bricks
from legos.config.model_schema import ModelConfig, SystemModel
from legos.registry import BrickConfig

_TOKEN_VECTORS = {"embeddings", "profile_embeddings"}


def brick_settings(model: ModelConfig) -> Iterator[BrickConfig]:
    """The settings of a model's bricks and of the bricks inside them."""
    waiting: list[BrickConfig] = [model.item, model.user, model.predictor]
    while waiting:
        brick = waiting.pop()
        yield brick
        waiting += [value for _, value in brick if isinstance(value, BrickConfig)]


def needs(model: ModelConfig) -> set[str]:
    """Names of what a model's bricks are built from: ``embeddings``, ``language_model``, ..."""
    found: set[str] = set()
    registries = [bricks(family) for family in FAMILIES]
    for settings in brick_settings(model):
        for registry in registries:
            name = settings.name
            if name in registry.names() and registry.config(name) is type(settings):
                found |= inspect.signature(registry.brick(name)).parameters.keys()
    return found


def reads_token_vectors(model: SystemModel) -> bool:
    """Whether the embed YAML's token vectors are a part of a model.

    A language model as item encoder reads its own.
    """
    return isinstance(model, ModelConfig) and bool(_TOKEN_VECTORS & needs(model))


def stands_on_language_model(model: SystemModel) -> bool:
    """Whether a model of bricks has a language model as item encoder."""
    return isinstance(model, ModelConfig) and "language_model" in needs(model)
