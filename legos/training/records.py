"""What ``state.json`` of a checkpoint says."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, get_type_hints

from pydantic import ConfigDict, Field, create_model

from legos.records import Count, Record
from legos.runs.checkpoint import StateRecord

_BOUNDED: dict[Any, Any] = {int: Count, dict[str, int]: dict[str, Count]}


def record_of(plain: type) -> Any:
    """A schema with every field of a dataclass and no other; whole numbers are not negative."""
    hints = get_type_hints(plain)
    kinds = {each.name: hints[each.name] for each in fields(plain)}
    described: dict[str, Any] = {
        name: (_BOUNDED.get(kind, kind), ...) for name, kind in kinds.items()
    }
    config = ConfigDict(**{**Record.model_config, "extra": "forbid"})
    return create_model(f"{plain.__name__}Record", __config__=config, **described)


class EarlyStoppingRecord(Record):
    """:meth:`legos.training.early_stopping.EarlyStopping.state`."""

    best: float | None
    best_epoch: Count
    epochs_since: Count


class RandomRecord(Record):
    """States of generators, see :mod:`legos.training.random_state`; checked where they are used."""

    python: Annotated[list[Any], Field(min_length=3, max_length=3)]
    numpy: Annotated[list[Any], Field(min_length=5, max_length=5)]


class TrainedRecord(StateRecord):
    """``state.json``, as far as scoring reads it."""

    run: str
    frozen: dict[str, str]


class ResumableRecord(TrainedRecord):
    """``state.json``, as far as training reads it in every system."""

    early_stopping: EarlyStoppingRecord
    metrics_position: Count
    random: list[RandomRecord] | RandomRecord
    scaler: dict[str, Any] | None = None
