"""Settings of a trained run that may be changed without training it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from legos.config.document import leaves
from legos.config.load import load_over
from legos.config.model_schema import ModelConfig
from legos.config.refusals import nearest_rule, unread_keys
from legos.config.schema import RunConfig
from legos.config.yaml_files import KINDS
from legos.errors import CheckpointError, ConfigError, LegosError, some
from legos.settings import OF_TRAINING, Setting, settings

_OF_EXP = ("exp.precision", "exp.deterministic", "exp.evaluate.exclude")
_ARGUMENTS = {"data.folder": ("data", "FOLDER"), "exp.device": ("device", "DEVICE")}
_IDLE = ("name", "ranges", "preset", "seed", "gradient_checkpointing", "max_gib")
"""Keys of models that decide nothing of an open run."""


def with_settings(config: RunConfig, given: Mapping[str, Any], called: str) -> RunConfig:
    """The configuration of a trained run with other values of some settings.

    Args:
        config: of the run.
        given: values by dotted key; a mapping sets the keys below.
        called: what the user calls ``given``; every refusal begins with it.

    Raises:
        ConfigError: a key is unknown, an open run does not read it, or the schema refuses its
            value.
        CheckpointError: a key needs another training.
    """
    for key in given:
        first, *rest = key.split(".")
        if first not in KINDS or not all(rest) or not rest:
            raise ConfigError(f"{called}: {key}: no such setting; {_choices(config)}")
    _refuse_unread(config, given, called, trained=config)
    changed = load_over(config, given, place=called)
    _refuse_unread(changed, given, called, trained=config)
    return changed


def _refuse_unread(
    config: RunConfig, given: Mapping[str, Any], called: str, *, trained: RunConfig
) -> None:
    """Raise LegosError for known keys that an open run of a configuration does not read."""
    unread, known = unread_keys(config), {each.key for each in settings(config)}
    values, read = {each.key: each for each in settings(trained)}, readable(config)
    for key in _leaves(given):
        what = f"{called}: {key}"
        if (told := nearest_rule(key, unread)) is not None:
            instead = f"it reads {told}" if told else _choices(config)
            raise ConfigError(f"{what}: not read by model {config.model.name}; {instead}")
        setting = next((each for each in _prefixes(key) if each in known), "")
        if setting and setting not in read:
            raise _refusal(what, setting, values.get(setting), _choices(config))


def _refusal(what: str, key: str, trained: Setting | None, choices: str) -> LegosError:
    if trained is not None and trained.mark.outcome in OF_TRAINING:
        value = f"this run was trained with {trained.value!r}"
        return CheckpointError(f"{what}: another value needs another training, {value}; {choices}")
    name, example = _ARGUMENTS.get(key, ("", ""))
    instead = f"give --{name} {example} (in Python {name}=)" if name else choices
    return ConfigError(f"{what}: an open run does not read it; {instead}")


def readable(config: RunConfig) -> list[str]:
    """Dotted keys of settings that an open run reads and that need no other training."""
    unread = unread_keys(config)
    keys = [
        each.key
        for each in settings(config.model, "model")
        if each.key.rpartition(".")[2] not in _IDLE
        and (each.mark.outcome in ("choice", "nothing") or each.key in config.model.of_lists)
    ]
    keys += [
        *_OF_EXP,
        *(["exp.evaluate.page_size"] if isinstance(config.model, ModelConfig) else []),
    ]
    return [key for key in keys if nearest_rule(key, unread) is None]


def _choices(config: RunConfig) -> str:
    return f"may be set: {some(readable(config))}"


def _leaves(given: Mapping[str, Any]) -> Iterator[str]:
    for key, value in given.items():
        for path, _ in leaves(value, tuple(key.split("."))):
            yield ".".join(path)


def _prefixes(key: str) -> Iterator[str]:
    """The key and the keys above it, the longest first."""
    parts = key.split(".")
    return (".".join(parts[:length]) for length in range(len(parts), 0, -1))
