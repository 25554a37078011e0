"""Schema errors in words: place, dotted key, value given, what is allowed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from legos.config.model_schema import SystemModel
from legos.config.yaml_files import Document, value_at
from legos.errors import nearest
from legos.registry import BrickConfig, Registry

_LONGEST_VALUE = 60


def explain(
    error: ValidationError,
    section: type[BaseModel],
    document: Document,
    prefix: tuple[str, ...],
    registries: Mapping[str, Registry],
) -> list[str]:
    """One line for each thing that is wrong with a section.

    Args:
        error: what pydantic found.
        section: the class that was asked for.
        document: the resolved sections, for places and given values.
        prefix: key path of the section in the document.
        registries: brick registries by family name ("item", "user", "predictor").
    """
    lines = []
    for details in error.errors(include_url=False):
        location = details["loc"]
        path = (*prefix, *(str(part) for part in location))
        problem = _problem(dict(details), section, value_at(document.data, prefix), registries)
        lines.append(f"{document.place(path)}: {'.'.join(path)}: {problem}")
    return lines


def _problem(
    details: dict[str, Any],
    section: type[BaseModel],
    given: Any,
    registries: Mapping[str, Registry],
) -> str:
    kind, location, value = details["type"], details["loc"], details["input"]
    message: str = details["msg"].removeprefix("Value error, ")
    found = f", found {_short(value)}"
    if kind == "extra_forbidden":
        known = _valid_keys(section, location[:-1], given, registries)
        return f"unknown key (value {_short(value)}); {nearest(str(location[-1]), known)}"
    if kind == "missing":
        return f"missing; {_meaning(section, location, given, registries)}".rstrip("; ")
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", details["ctx"]["expected"])
        return f"unknown value {_short(value)}; {nearest(str(value), choices)}"
    if kind == "string_pattern_mismatch":
        return f"expected letters, digits, dots, dashes and underscores only{found}"
    if kind == "brick" or (kind == "value_error" and isinstance(value, dict | list | str)):
        return message
    if kind in ("bool_type", "bool_parsing"):
        return f"expected true or false{found}"
    if kind in ("model_type", "model_attributes_type"):
        return f"expected keys and values{found}"
    message = message.removeprefix("Input should be ").removesuffix(" in non-strict mode")
    message = message.replace("a valid ", "a ").replace("a integer", "a whole number")
    return f"expected {message}{found}"


def _valid_keys(
    section: type[BaseModel],
    location: Sequence[str | int],
    given: Any,
    registries: Mapping[str, Registry],
) -> list[str]:
    """The keys that may stand at a place of a section."""
    found = _model_at(section, location, given, registries)
    return list(found.model_fields) if found else []


def _meaning(
    section: type[BaseModel],
    location: Sequence[str | int],
    given: Any,
    registries: Mapping[str, Registry],
) -> str:
    """The help text of a key."""
    found = _model_at(section, location[:-1], given, registries)
    field = found.model_fields.get(str(location[-1])) if found else None
    return (field.description or "") if field else ""


def _model_at(
    section: type[BaseModel],
    location: Sequence[str | int],
    given: Any,
    registries: Mapping[str, Registry],
) -> type[BaseModel] | None:
    """The class that judges a place, following the names of bricks."""
    current: type[BaseModel] | None = _of_its_system(section, given)
    family = "item"
    for part in location:
        given = value_at(given, (str(part),))
        if isinstance(part, int):
            current = _of_its_system(current, given)
            continue
        family = part if part in registries else family
        field = current.model_fields.get(part) if current else None
        current = _model_in(field.annotation) if field else None
        if current is BrickConfig:
            name = given.get("name") if isinstance(given, dict) else None
            registry = registries[family]
            current = registry.config(name) if name in registry.names() else None
    return current


def _of_its_system(current: type[BaseModel] | None, given: Any) -> type[BaseModel] | None:
    """The section of the system that a model YAML names."""
    if current is None or not issubclass(current, SystemModel):
        return current
    try:
        return current.section_of(given)
    except ValidationError:
        return current


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The section class inside ``tuple[FieldConfig, ...]``, ``CompareConfig | None``, ..."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_model_in(argument) for argument in get_args(annotation))
    return next((model for model in inner if model), None)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."
