"""Every registered brick in every form its settings offer."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import ValidationError

from legos.registry import BrickConfig, Registry, UserEncoderConfig, item_encoders, user_encoders

_LOADING = (
    "dtype",
    "cache_dtype",
    "prompts",
    "quantised",
    "attention",
    "bidirectional",
)  # of a language model: before bricks

_OF_FILES = ("shipped",)  # of a folder of a sentence encoder: tests/workplace/test_shipped_brick.py


def forms(registry: Registry) -> list[Any]:
    """Every brick with every combination of its choices, as pytest parameters.

    A few combinations that show every choice run always; the others are marked ``nightly``.
    """
    return [
        _parameter(config, *(() if chosen else [pytest.mark.nightly]))
        for name in registry.names()
        for config, chosen in _covering(list(_configs(registry, name)))
    ]


def default_forms(registry: Registry) -> list[Any]:
    """Every brick once, with its defaults; a brick that contains a brick gets the first one."""
    return [
        _parameter(
            registry.config(name)() if _plain(registry, name) else next(_configs(registry, name))
        )
        for name in registry.names()
    ]


def fitting(registry: Registry, fits: Callable[[Any], bool]) -> Any:
    """The first settings of a family, in alphabetical order, that fit."""
    return next(config for config in _all_configs(registry, *registry.names()) if fits(config))


def all_configs(registry: Registry) -> list[BrickConfig]:
    """The settings of every brick: all literals, both booleans, every brick it may contain."""
    return list(_all_configs(registry, *registry.names()))


@cache
def _all_configs(registry: Registry, *names: str) -> tuple[BrickConfig, ...]:
    return tuple(config for name in names for config in _configs(registry, name))


def _configs(registry: Registry, name: str) -> Iterator[BrickConfig]:
    """Every combination of a brick's literals and booleans; then each brick it may contain once.

    Combinations that the settings themselves refuse are left out.
    """
    fields = registry.config(name).model_fields
    choices = {
        key: _choices(field.annotation)
        for key, field in fields.items()
        if key not in ("name", *_LOADING)
    }
    choices = {key: options for key, options in choices.items() if options}
    inside = {key for key, options in choices.items() if isinstance(options[0], BrickConfig)}
    first = {key: options[0] for key, options in choices.items()}
    plain = {key: options for key, options in choices.items() if key not in inside}
    settings = [
        {**first, **dict(zip(plain, options, strict=True))}
        for options in itertools.product(*plain.values())
    ]
    settings += [{**first, key: brick} for key in sorted(inside) for brick in choices[key][1:]]
    for setting in settings:
        with suppress(ValidationError):
            yield registry.validate({"name": name, **setting})


def _covering(configs: list[BrickConfig]) -> list[tuple[BrickConfig, bool]]:
    """Each configuration, and whether it is the first to show one of its choices."""
    shown: set[tuple[str, Any]] = set()
    marked = []
    for config in configs:
        choices = set(_chosen(config).items())
        marked.append((config, not marked or not choices <= shown))
        shown |= choices
    return marked


def _choices(annotation: Any) -> list[Any]:
    """What a setting may be, where that is a closed choice."""
    if annotation is bool:
        return [False, True]
    if get_origin(annotation) is Literal:
        return [each for each in get_args(annotation) if each not in _OF_FILES]
    if isinstance(annotation, type) and issubclass(annotation, BrickConfig):
        registry = user_encoders if issubclass(annotation, UserEncoderConfig) else item_encoders
        names = [name for name in registry.names() if _plain(registry, name)]
        return [registry.config(name)() for name in names if not _reads_files(registry, name)]
    return [choice for part in get_args(annotation) for choice in _choices(part)]


def _reads_files(registry: Registry, name: str) -> bool:
    """Whether a brick needs given vectors or codes, or a language model."""
    needed = inspect.signature(registry.brick(name)).parameters
    return bool({"item_vectors", "user_vectors", "item_codes", "language_model"} & needed.keys())


def _plain(registry: Registry, name: str) -> bool:
    """Whether a brick can do without any setting."""
    return not any(field.is_required() for field in registry.config(name).model_fields.values())


def _parameter(config: BrickConfig, *marks: pytest.MarkDecorator) -> Any:
    settings_text = ",".join(f"{key}={value}" for key, value in _chosen(config).items())
    name = f"{config.name}[{settings_text}]" if settings_text else config.name
    return pytest.param(config, id=name, marks=marks)


def _chosen(config: BrickConfig) -> dict[str, Any]:
    """The closed choices of a brick's settings; a brick inside it by its name."""
    return {
        key: value.name if isinstance(value, BrickConfig) else value
        for key, value in config
        if isinstance(value, BrickConfig | bool | str) and key != "name"
    }
