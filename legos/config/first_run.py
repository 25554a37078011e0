"""Model and experiment that a command line leaves out, and the form of `recommended`.

``legos run --data shop`` trains and measures ``recommended``; where the tables lack what that
needs, the form that goes without. The choice is made once, from the tables, and is part of the
configuration from then on: folder, id and a loaded run are as if every word had been typed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import Any

from pydantic import ValidationError

from legos.config.data_schema import DataConfig
from legos.config.document import Document, value_at
from legos.config.locations import own_yamls, yamls
from legos.config.models import read_section
from legos.config.overrides import Arguments, apply_dotted
from legos.config.references import resolve
from legos.data.languages import minilm_knows
from legos.data.manifest import read_manifest
from legos.data.tables import Columns
from legos.errors import ConfigError, DataError

RECOMMENDED, _WORDS = "recommended", "recommended_words"
_BETTER = f"--model {_WORDS} learns from their own tokens"
_STEPS = 700  # of training that small data get, too; Goodreads takes 748 in 4 epochs
_MOST_EPOCHS = 50
_BATCH = 512  # of `recommended`
_PATIENCE = 5  # of many short epochs
_EPOCHS_OF_ALL = 60  # where all items are ranked; early stopping comes first
_FULL_SOFTMAX = 100_000  # items; a step over more of them costs more than it teaches
_FITTED = 5  # epochs where nothing is held out to stop by


@dataclass(frozen=True)
class FirstRun:
    """What is put in where a command line does not say it.

    Attributes:
        names: of YAMLs, by section.
        settings: keys over those of the model's YAML.
        notice: what was chosen and why.
    """

    names: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    notice: str = ""


def first_run(arguments: Arguments) -> FirstRun:
    """Choose model and experiment for data alone, and the form of ``recommended`` for its data.

    A search without a model is one of ``recommended``; a model without an experiment is trained and
    tested.
    """
    given = arguments.sections
    unsaid = "data" in given and not arguments.bricks and "model" not in given
    alone = unsaid and "exp" not in given
    searched = unsaid and given.get("exp") == "search"
    asked = given.get("model") == RECOMMENDED and RECOMMENDED not in own_yamls("model")
    names = {"model": RECOMMENDED} if unsaid else {}
    if "data" in given and "exp" not in given:
        names["exp"] = _experiment(given.get("model"))
    if not (alone or searched or asked):
        exp = {kind: name for kind, name in names.items() if kind == "exp"}
        return FirstRun(exp, notice=_told(exp))
    opened = _open(arguments)
    if opened is None:  # errors in the data are reported where they are loaded
        return FirstRun(names)
    data, columns = opened
    test = data.splits.test[0] if data.splits.test else ""
    if alone and not data.user_fields and _kind(columns, test) == "none":
        width = {} if "hidden_size" in arguments.variables else {"hidden_size": 200}
        names = {"model": "multi_vae", "exp": "rank-all"}
        return FirstRun(
            names, width, _told(names, "the split has no negatives, so all items are ranked")
        )
    form, reasons = _form(arguments, data, columns)
    if asked and form == _WORDS:
        form, reasons = RECOMMENDED, [f"MiniLM does not know the language of the texts: {_BETTER}"]
    if form != RECOMMENDED or alone:
        names["model"] = form
    settings, why = _training(arguments, data, columns)
    if alone and not _is_measurable(columns, test):
        names["exp"] = "train"
        settings |= {"epochs": _FITTED, "patience": 0}
        reasons += [f"split {test!r} has no held-out clicks: {_FITTED} epochs without a test"]
    elif why:
        reasons += why
    return FirstRun(names, {"train": settings} if settings else {}, _told(names, *reasons))


def _experiment(model: str | None) -> str:
    """The experiment that trains and tests a model: of a system beside the bricks its own."""
    try:
        system = "" if model is None else read_section("model", model).data.get("system", "")
    except ConfigError:  # reported where models are loaded
        return "tt"
    return system if system in yamls("exp") else "tt"


def _told(names: dict[str, str], *reasons: str) -> str:
    words = " ".join(f"--{kind} {name}" for kind, name in names.items())
    return ": ".join(part for part in (words and f"using {words}", "; ".join(reasons)) if part)


def _open(arguments: Arguments) -> tuple[DataConfig, Columns] | None:
    """The data section and the tables that it names; None where they cannot be read."""
    try:
        document = Document({}, {})
        document.put(("data",), read_section("data", arguments.sections["data"]))
        apply_dotted(document, arguments.of("data"))
        section = resolve(document, arguments.variables).data["data"]
        data = DataConfig.model_validate(section)
        return data, Columns(data.folder, read_manifest(data.folder))
    except (ConfigError, DataError, ValidationError, KeyError):
        return None


def _form(arguments: Arguments, data: DataConfig, columns: Columns) -> tuple[str, list[str]]:
    """The form of ``recommended`` for the items' fields, and why it is no other."""
    own = "llm_ver" in arguments.variables or any(
        path[:2] == ("model", "item") for path in arguments.dotted
    )
    if own:
        return RECOMMENDED, []
    if not data.fields:
        return "recommended_ids", ["items have no fields, so the model learns item IDs"]
    if not minilm_knows(columns):
        return (
            _WORDS,
            ["MiniLM does not know the language of the texts; the model learns from their tokens "
             "(--llm_ver FOLDER: a sentence encoder that does)"],
        )  # fmt: skip
    return RECOMMENDED, []


def _training(
    arguments: Arguments, data: DataConfig, columns: Columns
) -> tuple[dict[str, Any], list[str]]:
    """Settings of training that follow from the data, and why."""
    settings: dict[str, Any] = {}
    reasons = []
    if _ranks_all(arguments):
        full = columns.manifest["tables"]["items"]["rows"] <= _FULL_SOFTMAX
        loss = "full_softmax" if full else "sampled_softmax"
        settings |= {"loss": loss, "epochs": _EPOCHS_OF_ALL, "patience": _PATIENCE}
        reasons.append(f"loss {loss}, because all items are ranked")
    elif _kind(columns, data.splits.train) in ("shown", "rated", "given"):
        settings["negatives"] = {"strategy": "impression", "count": 4}
        reasons.append("training negatives are those in the data")
    clicks = _summary(columns, data.splits.train).get("clicks", 0)
    epochs = min(_MOST_EPOCHS, ceil(_STEPS / ceil(clicks / _BATCH))) if clicks else 0
    if epochs > settings.get("epochs", 4) and ("exp", "train", "epochs") not in arguments.dotted:
        settings |= {"epochs": epochs, "patience": _PATIENCE}
        reasons.append(f"up to {epochs} epochs, because there are only {clicks:,} clicks")
    return settings, reasons


def _ranks_all(arguments: Arguments) -> bool:
    """Whether the experiment ranks all items; what is wrong with it is reported elsewhere."""
    try:
        document = Document({}, {})
        document.put(("exp",), read_section("exp", arguments.sections["exp"]))
        apply_dotted(document, arguments.of("exp"))
    except (ConfigError, KeyError):
        return False
    return bool(value_at(document.data, ("exp", "evaluate", "ranking")) == "all")


def _kind(columns: Columns, split: str) -> str:
    """Where a split's negatives come from; "" of tables from before manifests said so."""
    return str(columns.manifest.get("negatives", {}).get(split, ""))


def _summary(columns: Columns, split: str) -> dict[str, Any]:
    found: dict[str, Any] = columns.manifest["summary"].get("splits", {}).get(split, {})
    return found


def _is_measurable(columns: Columns, split: str) -> bool:
    """Whether a split has clicks of its own, not those of train asked again."""
    reader = columns.manifest.get("settings", {}).get("reader", {})
    is_fit = bool(reader.get("asked_again")) and not split.startswith("test")
    return not is_fit and _summary(columns, split).get("clicks", 1) > 0
