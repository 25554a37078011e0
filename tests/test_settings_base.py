"""Numbers of every settings model: finite, bounded, and of the kind that they say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from legos.config.schema import RunConfig
from legos.config.yaml_files import FAMILIES
from legos.registry import bricks
from legos.settings import LARGEST_SEED, Seed, Settings


class Sample(Settings):
    """One number of each kind, also inside others."""

    count: int = 1
    seed: Seed = 0
    rate: float = 0.5
    flag: bool = True
    counts: tuple[int, ...] = ()
    rates: dict[str, float] = {}  # noqa: RUF012
    either: int | float | None = None
    within: Inner | None = None


class Inner(Settings):
    """Of a sample."""

    size: int = 1


@pytest.mark.parametrize(
    "given",
    [
        {"count": True},
        {"count": 1.0},
        {"count": "1"},
        {"count": 2**31},
        {"count": -(2**31)},
        {"seed": 2**64},
        {"seed": LARGEST_SEED + 1},
        {"seed": -1},
        {"rate": float("nan")},
        {"rate": float("inf")},
        {"rate": True},
        {"rate": "0.5"},
        {"flag": 2},
        {"flag": "maybe"},
        {"counts": [1, True]},
        {"counts": [2**63]},
        {"rates": {"a": float("nan")}},
        {"either": float("inf")},
        {"either": True},
        {"within": {"size": True}},
    ],
    ids=str,
)
def test_a_number_of_another_kind_or_without_bounds_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Sample.model_validate(given)


def test_whole_numbers_are_fractions_too_and_the_largest_seed_is_one() -> None:
    sample = Sample.model_validate({"rate": 1, "seed": LARGEST_SEED, "counts": [1, 2]})
    assert (sample.rate, sample.seed, sample.counts) == (1.0, LARGEST_SEED, (1, 2))


def test_a_flag_may_be_1_or_0_as_in_published_commands() -> None:
    assert [Sample.model_validate({"flag": given}).flag for given in (1, 0, True)] == [1, 0, 1]


def every_settings_model() -> list[type[Settings]]:
    """All that a YAML can hold: sections, bricks, systems, and what lies inside them."""
    for family in FAMILIES:
        bricks(family)
    assert RunConfig
    found: dict[type[Settings], None] = {}
    waiting: list[type[Settings]] = [Settings]
    while waiting:
        for below in waiting.pop().__subclasses__():
            if below.__module__.startswith("legos."):
                found[below] = None
            waiting.append(below)
    return list(found)


def numbers(schema: Any) -> Iterator[dict[str, Any]]:
    """Nodes of whole numbers and fractions in a core schema."""
    if isinstance(schema, dict):
        if schema.get("type") in ("int", "float"):
            yield schema
        schema = list(schema.values())
    if isinstance(schema, list | tuple):
        for part in schema:
            yield from numbers(part)


def test_no_number_of_any_yaml_is_without_bounds() -> None:
    models = every_settings_model()
    assert len(models) > 80
    for model in models:
        for number in numbers(model.__pydantic_core_schema__):
            assert number["strict"], model
            if number["type"] == "float":
                assert number["allow_inf_nan"] is False, model
            else:
                assert {"ge", "gt"} & number.keys(), model
                assert {"le", "lt"} & number.keys(), model
