"""The contents that a run reads: tables, language models, files of vectors, bricks' code.

A path says where something lies, not what it is. Each source is known by a hash of its content
(:mod:`legos.content`), which stands in ``config.json`` and in the ids of runs and measurements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from legos.config.checks import OF_TEXTS
from legos.config.schema import RunConfig
from legos.content import content_of
from legos.data.tables import Tables
from legos.decides import CONTENT, settings
from legos.errors import CheckpointError, ConfigError
from legos.files import sha256_of_text
from legos.lm.content import language_model_content
from legos.lm.locate import is_here
from legos.lm.source import LanguageModelSource
from legos.runs.checkpoint import checkpoint_content, checkpoint_in
from legos.runs.code import code_of_bricks

TABLES, LOADED, TEXT_MODEL = "data.folder", "exp.load", "exp.evaluate.text_model"

_TOKENS = "embed.path"


def sources_of_weights(config: RunConfig, tables: Tables) -> dict[str, str]:
    """By dotted key the content of everything that weights are trained on, or loaded from.

    Raises:
        LegosError: something is not there.
    """
    found = {TABLES: tables_content(tables), **code_of_bricks(config.model)}
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
        if isinstance(value, LanguageModelSource) and value.hub is not None and not is_here(value)
    ]


def sources_of_measurement(config: RunConfig) -> dict[str, str]:
    """The same of what only a test reads: the language model of the text baselines."""
    if not set(config.exp.baselines) & set(OF_TEXTS):
        return {}
    return {TEXT_MODEL: _content(TEXT_MODEL, config.exp.evaluate.text_model)}


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
