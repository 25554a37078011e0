"""The ids of a run and of a measurement: hashes over what decides them, and nothing else.

The mark of a setting in the schema says what it decides (:mod:`legos.settings`),
:mod:`legos.config.refusals` whether the run reads it, and :mod:`legos.runs.identity` what files and
language models hold. Paths, names, the device and the number of processes are in neither.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from legos import plugins
from legos.code_content import code_content
from legos.config.exp_schema import MINILM
from legos.config.refusals import nearest_rule, unread_keys
from legos.config.schema import RunConfig
from legos.content import content_of
from legos.data.tables import Tables
from legos.errors import CheckpointError, ConfigError
from legos.files import sha256_of_text
from legos.lm.locate import is_here, is_shape_alone, language_model_content
from legos.lm.settings import LanguageModelSource
from legos.registry import brick_class, bricks_in
from legos.runs.checkpoint import checkpoint_content, checkpoint_in
from legos.settings import CONTENT, OF_MEASUREMENTS, OF_WEIGHTS, deciding, settings

ID_LENGTH = 12  # hexadecimal digits


@dataclass(frozen=True)
class Identity:
    """What decides one outcome.

    Attributes:
        settings: by dotted key.
        sources: by dotted key the hash of a content.
    """

    settings: Mapping[str, Any]
    sources: Mapping[str, str]

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits of all of it."""
        return sha256_of_text(json.dumps(vars(self), sort_keys=True))[:ID_LENGTH]

    def differences(self, other: Identity) -> list[str]:
        """Dotted keys that are not the same in both."""
        mine, theirs = ({**each.settings, **each.sources} for each in (self, other))
        return sorted(
            key
            for key in mine.keys() | theirs.keys()
            if (key in mine) != (key in theirs) or mine.get(key) != theirs.get(key)
        )


def run_identity(config: RunConfig, tables: Tables) -> Identity:
    """What decides trained weights.

    Raises:
        LegosError: something that is read is not there.
    """
    rules = unread_keys(config)
    sources = sources_of_weights(config, tables)
    settings = config.model.as_in_runs(_read(deciding(config, OF_WEIGHTS), rules))
    return Identity(settings, _read(sources, rules))


def measurement_identity(config: RunConfig) -> Identity:
    """What decides how trained weights are measured; splits and baselines are told by name.

    Raises:
        LegosError: something that is read is not there.
    """
    rules = unread_keys(config)
    sources = sources_of_measurement(config)
    return Identity(_read(deciding(config, OF_MEASUREMENTS), rules), _read(sources, rules))


def _read(values: Mapping[str, Any], rules: Mapping[str, str]) -> dict[str, Any]:
    """The values by dotted key that the run reads."""
    return {key: value for key, value in values.items() if nearest_rule(key, rules) is None}


_CODE = "code of "


def code_of_bricks(model: BaseModel) -> dict[str, str]:
    """By name of each brick in a model's settings the hash of its code, of namesakes together."""
    modules: dict[str, list[str]] = {}
    for _, brick in bricks_in(model):
        module = (brick_class(brick) or type(brick)).__module__
        modules.setdefault(brick.name, []).append(module)
    return {f"{_CODE}{name}": code_content(found) for name, found in modules.items()}


def is_code(key: str) -> bool:
    """Whether a key of the sources names the code of a brick."""
    return key.startswith(_CODE)


def code_of_plugins(model: BaseModel) -> dict[str, str]:
    """By name of each plug-in that a model is made with the hash of its code."""
    parts = (model, *(brick for _, brick in bricks_in(model)))
    owners = {plugins.owner(type(part)) for part in parts}
    return {plugins.PREFIX + name: plugins.content(name) for name in owners if name is not None}


TABLES, LOADED, TEXT_MODEL = "data.folder", "exp.load", "exp.evaluate.text_model"

_TOKENS = "embed.path"


def sources_of_weights(config: RunConfig, tables: Tables) -> dict[str, str]:
    """By dotted key the content of everything that weights are trained on, or loaded from.

    Raises:
        LegosError: something is not there.
    """
    found = {TABLES: tables_content(tables)}
    found |= code_of_bricks(config.model) | code_of_plugins(config.model)
    for key, value in _named(config):
        found[key] = _content(key, value)
    if config.exp.load is not None:
        found[LOADED] = checkpoint_content(checkpoint_in(config.exp.load))
    return found


def models_not_here(config: RunConfig) -> list[str]:
    """Dotted keys of the language models whose files are not on this machine (yet)."""
    return [
        key
        for key, value in _named(config)
        if isinstance(value, LanguageModelSource)
        and (
            is_shape_alone(value)
            or (value.hub is not None and not is_here(value))
            or (value.path and value.shape is not None and not Path(value.path).exists())
        )
    ]


def sources_of_measurement(config: RunConfig) -> dict[str, str]:
    """The same of what only a test reads: the language model of the text baselines."""
    if not any("text_vectors" in each.needs for each in config.exp.baselines):
        return {}
    return {TEXT_MODEL: _content(TEXT_MODEL, config.exp.evaluate.text_model or MINILM)}


def tables_content(tables: Tables) -> str:
    """The fingerprint of tables; of tables whose files are not those of their manifest another."""
    files: Mapping[str, Any] = tables.manifest["files"]
    found = {name: content_of(tables.folder / name) for name in sorted(files)}
    other = [f"{name} {sha}" for name, sha in found.items() if sha != files[name].get("sha256")]
    return sha256_of_text("\n".join([tables.fingerprint, *other])) if other else tables.fingerprint


def _named(config: RunConfig) -> Iterator[tuple[str, Any]]:
    """The files and language models that weights are trained on, by dotted key."""
    for each in settings(config):
        value = each.value
        if each.mark.from_phase("") != CONTENT or value is None:
            continue
        if each.key == _TOKENS and config.embed.source == "language_model":
            value = LanguageModelSource.model_validate(value)  # a bare path or hub name, too
        yield each.key, value


def _content(key: str, value: Any) -> str:
    try:
        if isinstance(value, LanguageModelSource):
            return language_model_content(value)
        return content_of(Path(str(value)))
    except (ConfigError, CheckpointError) as error:
        raise ConfigError(f"{key}: {error}") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"{key}: {error.filename or value}: {reason}") from None
