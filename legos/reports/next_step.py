"""What to type after a run: serve its model, or train the baseline that is better."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from legos.config.locations import TABLES_FILE, yamls
from legos.config.models import models, read_section
from legos.config.schema import RunConfig
from legos.config.yaml_files import shown
from legos.registry import BaselineConfig, read_baseline

_DEFAULT_EXP = "tt"  # that a command line without --exp means for a fitted model


def loss(verdicts: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The first verdict below a baseline; None where there is none, or one above.

    Args:
        verdicts: on one model, by split, as ``results.json`` keeps them.
    """
    by_outcome = {str(each["outcome"]): each for each in reversed(list(verdicts))}
    return None if "above" in by_outcome else by_outcome.get("below")


def next_command(run: Path, verdicts: Iterable[Mapping[str, Any]]) -> str:
    """The command to type after a run: train the baseline above it as a model, or serve it.

    Args:
        run: folder of the trained run.
        verdicts: on it, by split.
    """
    lost = loss(verdicts)
    instead = lost.get("command") if lost is not None else None
    return instead or f"legos serve {shlex.quote(str(run))}"


def model_of(label: str) -> str | None:
    """Options of the model that a baseline is: ``--model ease --model.method.l2 50.0``.

    None: there is no such model, as of ``random``, which fits nothing.

    Args:
        label: of the baseline in results, such as ``ease,l2=50.0``.
    """
    name, *settings = label.split(",")
    if name not in models():
        return None
    section = read_section("model", name).data
    if section.get("system") != "fitted":
        return None
    wanted = dict(setting.split("=", 1) for setting in settings)
    return " ".join([f"--model {name}", *_overrides(read_baseline(section["method"]), wanted)])


def command_of(config: RunConfig, label: str) -> str | None:
    """The command that trains a baseline as a model on the data of a run; None: see above."""
    model = model_of(label)
    if model is None:
        return None
    name = config.exp.name
    trains = name in yamls("exp") and read_section("exp", name).data.get("mode") == "train_test"
    exp = [f"--exp {name}"] if trains and name != _DEFAULT_EXP else []
    return " ".join(["legos run --data", _data_words(config), model, *exp])


def _overrides(shipped: BaselineConfig, wanted: Mapping[str, str]) -> Iterator[str]:
    """Options that turn the shipped settings of a method into the wanted ones."""
    defaults = {name: field.default for name, field in type(shipped).model_fields.items()}
    own = {key: str(value) for key, value in shipped.changed.items()}
    usual = {key: str(defaults[key]) for key in own}
    for key, value in {**usual, **wanted}.items():
        if own.get(key, str(defaults[key])) != value:
            plain = {"None": "null", "True": "true", "False": "false"}.get(value, value)
            yield f"--model.method.{key} {shlex.quote(plain)}"


def _data_words(config: RunConfig) -> str:
    """What ``--data`` is given: the folder of own tables, or the name of a data YAML."""
    folder, known = config.data.folder, yamls("data").get(config.data.name)
    beside = folder / TABLES_FILE
    if known is not None and not (beside.is_file() and known.name == TABLES_FILE):
        return config.data.name
    return shlex.quote(shown(folder))
