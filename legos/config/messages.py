"""Schema errors in words: place, dotted key, value given, what is allowed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from legos.config.document import Document, value_at
from legos.config.model_schema import SystemModel
from legos.config.models import models
from legos.config.yaml_files import FAMILIES
from legos.errors import nearest
from legos.registry import BaselineConfig, BrickConfig, PredictorConfig, UserEncoderConfig, bricks

_LONGEST_VALUE = 60
_FAMILY_OF = {"baselines": "baseline"}  # keys that hold bricks
_OF_ANY_NAME = (BrickConfig, UserEncoderConfig, PredictorConfig, BaselineConfig)
_BRICKS: dict[type[BaseModel], str] = {
    BrickConfig: "item",
    UserEncoderConfig: "user",
    PredictorConfig: "predictor",
}
_Location = Sequence[str | int]


def explain(
    error: ValidationError, section: type[BaseModel], document: Document, kind: str
) -> list[str]:
    """One line for each thing that is wrong with a section.

    Args:
        error: what pydantic found.
        section: the class that was asked for.
        document: the resolved sections, for places and given values.
        kind: key of the section in the document.
    """
    lines = []
    for details in error.errors(include_url=False):
        path = (kind, *map(str, details["loc"]))
        problem = _problem(dict(details), section, document.data[kind])
        lines.append(f"{document.place(path)}: {'.'.join(path)}: {problem}")
    return lines


def _problem(details: dict[str, Any], section: type[BaseModel], given: Any) -> str:
    kind, location, value = details["type"], details["loc"], details["input"]
    message: str = details["msg"].removeprefix("Value error, ")
    found = f", found {_short(value)}"
    if kind == "extra_forbidden":
        owner = _model_at(section, location[:-1], given)
        known = owner.model_fields if owner else ()
        return f"unknown key (value {_short(value)}); {nearest(str(location[-1]), known)}"
    if kind == "missing":
        owner = _model_at(section, location[:-1], given)
        field = owner.model_fields.get(str(location[-1])) if owner else None
        meaning = field.description if field else None
        if not (field and len(location) == 2 and location[0] in FAMILIES):
            return f"missing; {meaning}" if meaning else "missing"
        family, key = map(str, location)
        told = ["missing", (meaning or "").rstrip("."), _what_to_give(field, family, key, given)]
        return "; ".join(filter(None, told))
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
    if kind == "too_short" and details["ctx"]["min_length"] == 1:
        return f"expected at least one{found}"
    message = message.removeprefix("Input should be ").removesuffix(" in non-strict mode")
    message = message.replace("a valid ", "a ").replace("a integer", "a whole number")
    return f"expected {message}{found}"


def _what_to_give(field: FieldInfo, family: str, key: str, given: Any) -> str:
    """How to set a key that the brick of a model lacks, and a model that has such a brick."""
    section = _model_in(field.annotation)
    kind = _BRICKS.get(section) if section else None
    value = f".name NAME (`legos list {kind}` shows the names)" if kind else " VALUE"
    name = value_at(given, (family, "name"))
    known = (model.name for model in models().values() if model.bricks.get(family) == name)
    model = next(known, "")
    preset = f", or choose a model with {name!r}, such as --model {model}" if model else ""
    return f"give --model.{family}.{key}{value}{preset}"


def _model_at(section: type[BaseModel], location: _Location, given: Any) -> type[BaseModel] | None:
    """The class that judges a place, following the names of bricks."""
    current: type[BaseModel] | None = _of_its_system(section, given)
    family, is_name = "item", False
    for part in location:
        given = value_at(given, (str(part),))
        if isinstance(part, int) or is_name:
            current, is_name = _of_its_system(current, given), False
            current = _brick_in(family, given) if current is BaselineConfig else current
            continue
        family = part if part in FAMILIES else _FAMILY_OF.get(part, family)
        field = current.model_fields.get(part) if current else None
        is_name = field is not None and get_origin(field.annotation) is dict
        current = _model_in(field.annotation) if field else None
        if current in _OF_ANY_NAME and not isinstance(given, list):
            current = _brick_in(family, given)
    return current


def _brick_in(family: str, given: Any) -> type[BaseModel] | None:
    """The settings model of the brick that a mapping names."""
    name = given.get("name") if isinstance(given, dict) else None
    registry = bricks(family)
    return registry.config(name) if name in registry.names() else None


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
