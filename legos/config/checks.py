"""Types of the schema that know their valid names: bricks, metrics, baselines, devices.

What they ask is imported when a value is checked, so that ``worker.py --help`` needs no torch.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from legos.errors import ConfigError, nearest
from legos.registry import (
    BrickConfig,
    PredictorConfig,
    Registry,
    UserEncoderConfig,
    item_encoders,
    predictors,
    user_encoders,
)

BASELINES = (
    "random",
    "popularity",
    "item_knn",
    "text_cosine",
    "item_knn_text_cosine",
    "oracle",
)
"""Methods without training that a results table can show beside the models."""

OF_TEXTS = ("text_cosine", "item_knn_text_cosine")
"""Those that read the vectors of ``exp.evaluate.text_model``."""

_REGISTRIES: dict[str, tuple[str, Registry]] = {
    "item": ("legos.item", item_encoders),
    "user": ("legos.user", user_encoders),
    "predictor": ("legos.predictor", predictors),
}
"""Per key of a model section: the package that fills the registry, and the registry."""


def bricks(family: str) -> Registry:
    """The filled registry of "item", "user" or "predictor"."""
    package, registry = _REGISTRIES[family]
    import_module(package)
    return registry


def brick_class(settings: BrickConfig) -> type | None:
    """The class that settings are registered with; None: with none."""
    for registry in map(bricks, _REGISTRIES):
        name = settings.name
        if name in registry.names() and registry.config(name) is type(settings):
            return registry.brick(name)
    return None


def refuse_repetition(what: str, names: Iterable[object]) -> None:
    """Raise ValueError when a name occurs twice."""
    twice = [str(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{what} {', '.join(twice)} given twice")


def refuse_lost_references(against: Mapping[str, str | None]) -> None:
    """Raise ValueError when a row of a comparison is measured against itself or against no row.

    Args:
        against: by name of the row, in order, the name of its reference; None: the first row.
    """
    for index, (name, reference) in enumerate(against.items()):
        others = [other for other in against if other != name]
        key = f"models.{index}.against"
        if reference == name:
            raise ValueError(f"{key}: {name!r} is this row itself; name another row")
        if reference is not None and reference not in others:
            raise ValueError(f"{key}: no row is called {reference!r}; {nearest(reference, others)}")


def refuse_unranked(names: Iterable[str]) -> None:
    """Raise ValueError for metrics that are not defined where all items are ranked."""
    from legos.metrics.names import GLOBAL

    wrong = [name for name in dict.fromkeys(names) if name in GLOBAL]
    if wrong:
        raise ValueError(
            f"metric {', '.join(wrong)} compares scores of different impressions and is not "
            "defined with evaluate.ranking all; take GAUC"
        )


def refuse_pairs_only(loss: str, user: UserEncoderConfig, predictor: PredictorConfig) -> None:
    """Raise ConfigError for bricks that cannot score a whole catalogue in every training step."""
    if user.output not in ("vector", "interests"):
        raise ConfigError(
            f"exp.train.loss {loss} scores all items, but user encoder {user.name} makes "
            "another user for every candidate; take softmax, bce or bpr"
        )
    if not predictor.scores_catalogue:
        able = [name for name in bricks("predictor").names() if _scores_catalogue(name)]
        raise ConfigError(
            f"exp.train.loss {loss} scores all items at once, which predictor {predictor.name} "
            f"cannot; take one of {', '.join(able)}, or loss softmax, bce or bpr"
        )


def refuse_no_cosines(predictor: PredictorConfig) -> None:
    """Raise ConfigError for a predictor whose scores are no cosines."""
    if not predictor.gives_cosines:
        raise ConfigError(
            "exp.train.loss cosine_contrastive has a margin for cosines, but the scores of "
            f"predictor {predictor.name} are none; take predictor cosine with temperature 1.0 and "
            "learn_temperature false (--predictor cosine)"
        )


def _scores_catalogue(name: str) -> bool:
    settings = bricks("predictor").validate({"name": name})
    return isinstance(settings, PredictorConfig) and settings.scores_catalogue


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
