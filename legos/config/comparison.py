"""The rows of a comparison and the single runs that each consists of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from legos.config.model_schema import ComparedModel, ModelConfig
from legos.config.schema import EmbedConfig, RunConfig
from legos.errors import ConfigError, nearest


@dataclass(frozen=True)
class ComparedRow:
    """A row of a comparison's tables.

    Attributes:
        label: the model's name, with that of the token vectors where there are several.
        reference: label of the row that it is measured against; None for the first row, unless
            it names one.
        runs: one a seed.
    """

    label: str
    reference: str | None
    runs: tuple[RunConfig, ...]


def comparison_rows(config: RunConfig) -> list[ComparedRow]:
    """A row for each model and embed of ``exp.compare``, models outside.

    ``against`` names a model: the reference is its row with the same token vectors. Without it
    the reference is the first row of all. A system that reads no token vectors has one row.
    """
    compare = config.exp.compare
    if compare is None:
        return [ComparedRow(config.model.name, None, (config,))]
    embeds = compare.embeds or (config.embed,)
    of_bricks = {entry.name for entry in compare.models if isinstance(entry, ModelConfig)}

    def label(name: str, embed: EmbedConfig) -> str:
        return f"{name} + {embed.name}" if len(embeds) > 1 and name in of_bricks else name

    first = label(compare.models[0].name, embeds[0])
    rows = []
    for entry in compare.models:
        for embed in embeds if entry.name in of_bricks else embeds[:1]:
            own = label(entry.name, embed)
            reference = label(entry.against, embed) if entry.against else first
            runs = tuple(_run(config, entry, embed, seed) for seed in compare.seeds)
            rows.append(ComparedRow(own, None if reference == own else reference, runs))
    return rows


def comparison_runs(config: RunConfig) -> list[RunConfig]:
    """One ``train_test`` run for each model, embed and seed of ``exp.compare``, in this order.

    A run is the same, run id included, as one started by itself.
    """
    return [run for row in comparison_rows(config) for run in row.runs]


@dataclass(frozen=True)
class Curve:
    """Rows of a comparison that differ in one number.

    Attributes:
        key: dotted key of the number.
        values: by the row's label, ascending.
    """

    key: str
    values: dict[str, float]


def comparison_curve(config: RunConfig) -> Curve | None:
    """What ``exp.compare.curve`` asks for; None where it asks for nothing.

    Rows lie on the curve where all but their names and that number is the same; of several such
    sets it is the largest.

    Raises:
        ConfigError: there are no two such rows with different numbers.
    """
    key = config.exp.compare.curve if config.exp.compare else None
    if key is None:
        return None
    sets: dict[str, dict[str, float]] = {}
    known: dict[str, float] = {}
    for row in comparison_rows(config):
        numbers = dict(_numbers(row.runs[0].model_dump(mode="json")))
        known |= numbers
        if key in numbers:
            rest = json.dumps(_without(row.runs[0], key), sort_keys=True)
            sets.setdefault(rest, {})[row.label] = numbers[key]
    if not sets:
        raise ConfigError(f"exp.compare.curve: no row has a number {key!r}; {nearest(key, known)}")
    found = max(sets.values(), key=len)
    if len(set(found.values())) < 2:
        raise ConfigError(
            f"exp.compare.curve: no two rows differ in {key} alone; name the same model twice in "
            "exp.compare.models, with other names and numbers"
        )
    return Curve(key, dict(sorted(found.items(), key=lambda entry: entry[1])))


def _numbers(value: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    """Dotted key and value of every number in a tree of mappings and lists."""
    if isinstance(value, dict | list):
        below = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in below:
            yield from _numbers(each, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield prefix, value


def _without(run: RunConfig, key: str) -> dict[str, Any]:
    """A run as plain values, but for the names of its parts and one number."""
    plain = run.model_dump(mode="json")
    for part in plain.values():
        del part["name"]
    *parents, last = key.split(".")
    here: Any = plain
    for parent in parents:
        here = here[int(parent)] if isinstance(here, list) else here[parent]
    here[int(last) if isinstance(here, list) else last] = None
    return plain


def _run(config: RunConfig, entry: ComparedModel, embed: EmbedConfig, seed: int) -> RunConfig:
    return RunConfig(
        data=entry.data or config.data,
        model=entry.alone(),
        embed=embed,
        exp=config.exp.model_copy(
            update={
                "mode": "train_test",
                "compare": None,
                "train": (entry.train or config.exp.train).model_copy(update={"seed": seed}),
            }
        ),
    )
