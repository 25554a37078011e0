"""What every settings model is made of: no unknown keys, numbers that are numbers, and bounded.

Torch is not imported here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema

LARGEST = 2**31 - 1
"""The largest whole number of a setting without a bound of its own: counts, sizes, steps."""
LARGEST_SEED = 2**32 - 1
"""The largest seed: numpy's generators take no larger one."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]  # it names a folder
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
LearningRate = Annotated[float, Field(gt=0, le=100)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]

_NUMBERS = ("int", "float")
_PLAIN_DATA = ("default", "metadata", "expected", "serialization")  # of a core schema


def _bound_numbers(schema: Any) -> None:
    """Make every number of a core schema strict, finite and bounded, in place."""
    if isinstance(schema, list | tuple):
        for part in schema:
            _bound_numbers(part)
    if not isinstance(schema, dict):
        return
    kind = schema.get("type")
    if kind in _NUMBERS:
        schema["strict"] = True
    if kind == "int":
        if "le" not in schema and "lt" not in schema:
            schema["le"] = LARGEST
        if "ge" not in schema and "gt" not in schema:
            schema["ge"] = -LARGEST
    if kind == "float":
        schema["allow_inf_nan"] = False
    for key, part in schema.items():
        if key not in _PLAIN_DATA:
            _bound_numbers(part)


class Settings(BaseModel):
    """A part of a YAML: frozen, without further keys; the texts below its keys are their help.

    Wherever it has a number, in lists, mappings and unions too, ``true`` is no 1, ``"3"`` and
    ``3.0`` are no 3, infinity and NaN are refused, and a whole number without bounds of its own
    is at most :data:`LARGEST`. A flag may be 1 or 0 too, as on the published command lines.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
    added: ClassVar[frozenset[str]] = frozenset()
    """Keys that are younger than runs which still count: their defaults are in no id."""
    removed: ClassVar[Mapping[str, Any]] = {}
    """Keys of finished runs that are no settings any more, and the only value that still counts."""

    @model_validator(mode="before")
    @classmethod
    def _without_removed(cls, values: Any) -> Any:
        if not cls.removed or not isinstance(values, dict):
            return values
        return {k: v for k, v in values.items() if k not in cls.removed or v != cls.removed[k]}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The schema that pydantic derives from the annotations, its numbers made strict."""
        schema = handler(source)
        _bound_numbers(schema)
        return schema

    def told_in_ids(self) -> dict[str, Any]:
        """Plain values by key, as the ids of runs hash them."""
        defaults = {key: type(self).model_fields[key].default for key in self.added}
        return {
            key: value
            for key, value in self.model_dump(mode="json").items()
            if key not in defaults or value != defaults[key]
        }


def refuse_repetition(what: str, names: Iterable[object]) -> None:
    """Raise ValueError when a name occurs twice."""
    twice = [str(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{what} {', '.join(twice)} given twice")


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
    """A setting that is read only by models that have one of some things.

    Attributes:
        things: arguments of bricks (``item_vectors``), or what a system says that it has.
        instead: by a thing what models that have it read in place of the setting.
    """

    things: frozenset[str]
    instead: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class InModes:
    """A section or setting that only some modes read.

    Attributes:
        modes: values of ``exp.mode``.
    """

    modes: tuple[str, ...]


@dataclass(frozen=True)
class LessMemory:
    """A number that takes less memory when it is lower.

    Attributes:
        turn: in which to try such settings; the first ones change no results.
    """

    turn: int


TRAINED_OR_TESTED = InModes(("train", "test", "train_test", "compare", "search"))


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
    for name, kind in type(section).model_fields.items():
        own = mark_of(kind, Mark) or mark
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
    for name in (plain or {}).keys() - type(section).model_fields.keys():  # as ids have it
        yield Setting(f"{prefix}.{name}", (plain or {})[name], mark)
    for name, value in getattr(section, "removed", {}).items():
        yield Setting(f"{prefix}.{name}", value, mark)


def _told(section: BaseModel) -> dict[str, Any]:
    if isinstance(section, Settings):
        return section.told_in_ids()
    return section.model_dump(mode="json")


M = TypeVar("M")


def mark_of(kind: FieldInfo, of: type[M]) -> M | None:
    """The mark of that class that a key of the schema has."""
    return next((each for each in kind.metadata if isinstance(each, of)), None)


def marked(section: BaseModel, prefix: str, of: type[M]) -> Iterator[tuple[str, BaseModel, M]]:
    """Dotted key, section and mark of all settings that have a mark of that class."""
    for name, kind in type(section).model_fields.items():
        key, value, mark = f"{prefix}.{name}", getattr(section, name), mark_of(kind, of)
        if mark is not None:
            yield key, section, mark
        if isinstance(value, BaseModel):
            yield from marked(value, key, of)


def unread_settings(section: BaseModel, prefix: str, things: Set[str]) -> Iterator[tuple[str, str]]:
    """Settings that others switch off (:class:`OnlyWith`) or the model lacks (:class:`AskedFor`).

    Args:
        section: checked settings.
        prefix: dotted key of the section.
        things: that the model has.

    Yields:
        Dotted key, sections for all below them, and what is read instead.
    """
    for key, inside, only in marked(section, prefix, OnlyWith):
        if (found := getattr(inside, only.key)) not in only.values:
            where = f"{key.rpartition('.')[0]}.{only.key}"
            alone = f"it with {where} {' or '.join(only.values)} alone, not {found}"
            yield key, f"{only.instead}, with {where} {found}" if only.instead else alone
    for key, _, asked in marked(section, prefix, AskedFor):
        if not asked.things & things:
            has = {"", *things}
            yield key, next((told for thing, told in asked.instead.items() if thing in has), "")


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
