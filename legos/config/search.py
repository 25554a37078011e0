"""The ranges of a search against the configuration: both ends are loaded before the first trial."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from legos.config.document import Document, KeyPath, value_at
from legos.config.references import referenced_variables
from legos.config.schema import RunConfig
from legos.config.search_schema import Range
from legos.config.yaml_files import parse_value
from legos.errors import ConfigError
from legos.settings import OF_WEIGHTS, settings

Load = Callable[[Mapping[str, Any]], RunConfig]
"""The configuration with some keys set."""
_COMPARABLE = ("data.folder", "data.splits", "data.group_by", "exp.train.metric", "exp.train.seed")
"""What all trials must share, beside the whole experiment but its training."""


def words_of(values: Mapping[str, Any]) -> list[str]:
    """Values by dotted key as words of a command line."""
    return [f"--{name}={_word(value)}" for name, value in values.items()]


def _word(value: Any) -> str:
    if isinstance(value, str) and parse_value(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def check_ranges(
    ranges: Mapping[str, Range],
    key: KeyPath,
    document: Document,
    given: Collection[str],
    load: Load,
) -> None:
    """Refuse ranges that no trial could take, all of them at once.

    Args:
        ranges: by dotted key.
        key: that holds them.
        document: says where each range stands.
        given: options of the command line, without dashes.
        load: makes the configuration of a trial.

    Raises:
        ConfigError: a key that is not there or given on the command line, too; an end that the
            schema refuses; a key that decides nothing of a training, or what is measured.
    """
    problems = []
    for name, each in ranges.items():
        text = value_at(document.data, name.split("."))
        filling = referenced_variables(text) if isinstance(text, str) else set()
        twice = [option for option in given if option in {name, *filling}]
        problem = f"--{twice[0]} is also given; remove one of them" if twice else None
        problem = problem or _problem(name, each, load)
        if problem is not None:
            place = (*key, name)
            problems.append(f"{document.place(place)}: {'.'.join(place)}: {problem}")
    if problems:
        head = "" if len(problems) == 1 else f"{len(problems)} invalid ranges:\n  "
        raise ConfigError(head + "\n  ".join(problems))


def _problem(name: str, each: Range, load: Load) -> str | None:
    """What is wrong with a range, if anything is."""
    found = []
    for value in each.ends:
        try:
            found.append(_told(load({name: value})))
        except ConfigError as error:
            return str(error).removeprefix("command line: ")
    first, last = found[0], found[-1]
    changed = [key for key in {**first, **last} if first.get(key) != last.get(key)]
    fixed = [key for key in changed if not _may_change(key)]
    if fixed:
        return f"changes {', '.join(fixed)}, so trials would not be comparable; give one value"
    if not changed:
        return "does not affect training, so there is nothing to search"
    if each.is_whole and each.choices is None and each.step is None:
        try:
            load({name: each.ends[0] + 0.5})
        except ConfigError:
            return None
        low, high = map(float, each.ends)
        return f"would draw only whole numbers; write {low} and {high}, or add step: 1"
    return None


def _told(config: RunConfig) -> dict[str, Any]:
    """By dotted key what decides a training."""
    return {each.key: each.value for each in settings(config) if each.mark.outcome in OF_WEIGHTS}


def _may_change(key: str) -> bool:
    if key.startswith(_COMPARABLE):
        return False
    return key.startswith("exp.train.") or not key.startswith("exp.")
