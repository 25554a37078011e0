"""The ids of a run and of a measurement: hashes over what decides them, and nothing else.

The mark of a setting in the schema says what it decides (:mod:`legos.decides`),
:mod:`legos.config.unread` whether the run reads it, and :mod:`legos.runs.sources` what files and
language models hold. Paths, names, the device and the number of processes are in neither.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from legos.config.schema import RunConfig
from legos.config.unread import nearest_rule, unread_keys
from legos.data.tables import Tables
from legos.decides import OF_MEASUREMENTS, OF_WEIGHTS, deciding
from legos.files import sha256_of_text
from legos.runs.sources import sources_of_measurement, sources_of_weights

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
    rules, later = unread_keys(config), type(config.model).read_later
    sources = sources_of_weights(config, tables)
    settings = _read(deciding(config, OF_WEIGHTS), rules)
    settings = {key: each for key, each in settings.items() if (key, each) not in later.items()}
    return Identity(settings, _read(sources, rules))


def measurement_identity(config: RunConfig) -> Identity:
    """What decides how trained weights are measured; splits and baselines are told by name.

    Raises:
        LegosError: something that is read is not there.
    """
    rules = unread_keys(config)
    sources = sources_of_measurement(config)
    return Identity(_read(deciding(config, OF_MEASUREMENTS), rules), _read(sources, rules))


def _read(values: Mapping[str, Any], rules: Mapping[str, str | None]) -> dict[str, Any]:
    """The values by dotted key that the run reads."""
    return {key: value for key, value in values.items() if nearest_rule(key, rules) is None}
