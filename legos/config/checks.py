"""Types of the schema that know their valid names: bricks, metrics, baselines, devices.

What they ask is imported when a value is checked, so that ``worker.py --help`` needs no torch.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from legos.errors import ConfigError, nearest
from legos.registry import BrickConfig, Registry, item_encoders, predictors, user_encoders

BASELINES = (
    "random",
    "popularity",
    "item_knn",
    "text_cosine",
    "item_knn_text_cosine",
    "oracle",
)
"""Methods without training that a results table can show beside the models."""

FAMILIES: dict[str, tuple[str, Registry]] = {
    "item": ("legos.item", item_encoders),
    "user": ("legos.user", user_encoders),
    "predictor": ("legos.predictor", predictors),
}
"""Per key of a model section: the package that fills the registry, and the registry."""


def bricks(family: str) -> Registry:
    """The filled registry of "item", "user" or "predictor"."""
    package, registry = FAMILIES[family]
    import_module(package)
    return registry


def refuse_repetition(what: str, names: Iterable[object]) -> None:
    """Raise ValueError when a name occurs twice."""
    twice = [str(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{what} {', '.join(twice)} given twice")


def _brick(family: str) -> BeforeValidator:
    def validate(value: Any) -> BrickConfig:
        return bricks(family).validate(value)

    return BeforeValidator(validate)


ItemEncoderChoice = _brick("item")
UserEncoderChoice = _brick("user")
PredictorChoice = _brick("predictor")


def _metric(name: str) -> str:
    from legos.metrics import parse_metric

    try:
        return str(parse_metric(name).name)
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _baseline(name: str) -> str:
    if name not in BASELINES:
        raise ValueError(f"unknown baseline {name!r}; {nearest(name, BASELINES)}")
    return name


def _device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError("expected auto, cpu, cuda or the like of cuda:1")
    return name


MetricName = Annotated[str, AfterValidator(_metric)]
BaselineName = Annotated[str, AfterValidator(_baseline)]
Device = Annotated[str, AfterValidator(_device)]
