"""What each setting decides: trained weights, how a test is measured, or nothing that comes out.

A field of a settings class says so in its annotation::

    page_size: Annotated[Count, NOTHING] = 512

Without a mark it decides weights. A mark on a section holds for all of its keys that have none of
their own. A mark may also say in which phase of training the setting first matters::

    patience: Annotated[Natural, WEIGHTS.from_phase("finetuning")] = 0

Run ids, measurements, ``--load`` and pretraining that runs share are made from these marks alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from pydantic import BaseModel

from legos.settings import Settings

Outcome = Literal["weights", "choice", "measurement", "nothing"]
Phase = Literal["", "validation", "finetuning"]


@dataclass(frozen=True)
class Mark:
    """What a setting decides.

    Attributes:
        outcome: ``weights``: what is trained; ``choice``: how the valid and the test split are
            measured, and with that which epoch is best; ``measurement``: how the test split is
            measured; ``nothing``: neither.
        by_content: the setting names a file or a language model, whose content decides and whose
            name and path do not.
        phase: in which it first matters: ``validation``: where an epoch is chosen on the valid
            split; ``finetuning``: after a system's pretraining; "": from the beginning. That of a
            section holds for all of its keys.
    """

    outcome: Outcome
    by_content: bool = False
    phase: Phase = ""

    def from_phase(self, phase: Phase) -> Mark:
        """The same mark of a setting that matters from a phase on."""
        return replace(self, phase=phase)


WEIGHTS, CHOICE, MEASUREMENT, NOTHING = map(Mark, get_args(Outcome))
CONTENT = Mark("weights", by_content=True)
MEASURED_CONTENT = Mark("measurement", by_content=True)


@dataclass(frozen=True)
class OnlyWith:
    """A setting that is read only where another key of its section has one of some values.

    Attributes:
        key: the other key.
        values: of it.
        instead: what is read in place of the setting; "": nothing.
    """

    key: str
    values: tuple[str, ...]
    instead: str = ""


@dataclass(frozen=True)
class AskedFor:
    """A setting that is read only where a brick is built from one of some things.

    Attributes:
        things: arguments of bricks: ``item_vectors``.
    """

    things: frozenset[str]


OF_WEIGHTS: frozenset[Outcome] = frozenset({"weights", "choice"})
"""What another training is needed for."""
OF_TRAINING: frozenset[Outcome] = frozenset({"weights"})
"""What trained weights cannot be measured without."""
OF_MEASUREMENTS: frozenset[Outcome] = frozenset({"choice", "measurement"})
"""What another measurement is needed for."""


@dataclass(frozen=True)
class Setting:
    """One value of a configuration.

    Attributes:
        key: dotted.
        value: a plain value; of a mark ``by_content`` as it was checked, a path or a source.
        mark: what it decides.
    """

    key: str
    value: Any
    mark: Mark


def settings(section: BaseModel, prefix: str = "", mark: Mark = WEIGHTS) -> Iterator[Setting]:
    """Every value of a section and of the sections inside it.

    Args:
        section: checked settings.
        prefix: dotted key of the section.
        mark: of the keys that have none of their own.
    """
    plain: dict[str, Any] | None = None
    for name, field in type(section).model_fields.items():
        own = next((each for each in field.metadata if isinstance(each, Mark)), mark)
        own = own.from_phase(own.phase or mark.phase)
        key = f"{prefix}.{name}" if prefix else name
        value = getattr(section, name)
        if isinstance(value, BaseModel) and not own.by_content:
            yield from settings(value, key, own)
        elif isinstance(value, tuple) and any(isinstance(each, BaseModel) for each in value):
            for number, each in enumerate(value):
                yield from settings(each, f"{key}.{number}", own)
        elif own.by_content:
            yield Setting(key, value, own)
        else:
            plain = _told(section) if plain is None else plain
            if name in plain:
                yield Setting(key, plain[name], own)


def _told(section: BaseModel) -> dict[str, Any]:
    if isinstance(section, Settings):
        return section.told_in_ids()
    return section.model_dump(mode="json")


def without_effect(section: BaseModel, prefix: str) -> Iterator[tuple[str, str]]:
    """Settings of a section that others of it switch off (:class:`OnlyWith`).

    Args:
        section: checked settings.
        prefix: dotted key of the section.

    Yields:
        Dotted key, and what is read instead.
    """
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        for mark in field.metadata:
            if isinstance(mark, OnlyWith) and (found := getattr(section, mark.key)) not in (
                mark.values
            ):
                where = f"{prefix}.{mark.key}"
                alone = f"it with {where} {' or '.join(mark.values)} alone"
                instead = f"{mark.instead}, with {where} {found}" if mark.instead else alone
                yield f"{prefix}.{name}", instead
        if isinstance(value, BaseModel):
            yield from without_effect(value, f"{prefix}.{name}")


def deciding(section: BaseModel, outcomes: frozenset[Outcome]) -> dict[str, Any]:
    """By dotted key the values that decide any of these; files are told by their content elsewhere.

    Args:
        section: checked settings.
        outcomes: :data:`OF_WEIGHTS` or :data:`OF_MEASUREMENTS`.
    """
    return {
        each.key: each.value
        for each in settings(section)
        if each.mark.outcome in outcomes and not each.mark.by_content
    }
