"""What the bricks of a model read, as shown by the arguments of their classes."""

from __future__ import annotations

import inspect
from functools import cache

from legos.config.checks import brick_class
from legos.config.model_schema import ModelConfig, SystemModel
from legos.registry import bricks_in

TOKEN_VECTORS = frozenset({"embeddings", "profile_embeddings"})
"""What bricks that read the embed YAML's token vectors are built from."""


def needs(model: ModelConfig) -> set[str]:
    """Names of what a model's bricks are built from: ``embeddings``, ``language_model``, ..."""
    found: set[str] = set()
    for _, settings in bricks_in(model):
        brick = brick_class(settings)
        if brick is not None:
            found |= _arguments(brick)
    return found


@cache
def _arguments(brick: type) -> frozenset[str]:
    return frozenset(inspect.signature(brick).parameters)


def reads_token_vectors(model: SystemModel) -> bool:
    """Whether the embed YAML's token vectors are a part of a model.

    A language model as item encoder reads its own.
    """
    return isinstance(model, ModelConfig) and bool(TOKEN_VECTORS & needs(model))


def stands_on_language_model(model: SystemModel) -> bool:
    """Whether a model of bricks has a language model as item encoder."""
    return isinstance(model, ModelConfig) and "language_model" in needs(model)
