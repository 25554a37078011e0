"""Prompt templates of the five task families, and of items of another domain.

RecSysLLM trains on the task families of P5 (Geng et al., "Recommendation as language processing",
RecSys 2022): 10 templates of rating, 13 sequential, 12 of explanation, 4 of reviews and 8 of direct
recommendation; one of each is held out to be tried on words never trained with, and 7 more are for
items of other domains. Intents, slots and answers are theirs, the words are our own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from legos.errors import ConfigError, nearest
from legos.systems.recsysllm.units import Textualizer, Unit, plain

Family = Literal["rating", "sequential", "explanation", "review", "direct", "transfer"]
SlotName = Literal[
    "user", "user_name", "item", "history", "candidates",
    "stars", "headline", "body", "feature", "brand", "price",
]  # fmt: skip
Answer = Literal[
    "stars", "whole-stars", "verdict", "liking", "item", "explanation", "stars-explanation",
    "headline",
]  # fmt: skip
FAMILIES: tuple[Family, ...] = get_args(Family)
COUNTS: Mapping[Family, int] = {
    "rating": 10, "sequential": 13, "explanation": 12, "review": 4, "direct": 8, "transfer": 7,
}  # fmt: skip
_OF_REVIEWS: tuple[SlotName, ...] = (
    "user", "user_name", "item", "stars", "headline", "body", "feature", "brand", "price",
)  # fmt: skip
_OF_SEQUENCES: tuple[SlotName, ...] = ("user", "user_name", "item", "history", "candidates")
_FREE_TEXTS: tuple[Answer, ...] = ("explanation", "stars-explanation", "headline")
_ATTACHED = '.,:;?!")'  # a plain part beginning so has no blank before it
_OPENED = '"'  # a slot after a plain part ending so has none


class _Entry(BaseModel):
    """A template as it stands in a YAML."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    intent: str
    answer: Answer
    seen: bool = True
    parts: Annotated[list[str], Field(min_length=2)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    family: Family
    templates: Annotated[list[_Entry], Field(min_length=1)]


@dataclass(frozen=True)
class Template:
    """One prompt; its answer stands at the end.

    Attributes:
        name: such as ``rating-3``.
        family: of tasks.
        intent: what is asked; templates of one intent are paraphrases.
        answer: kind of answer.
        seen: whether it is trained with.
        parts: words, and ``<slot>`` where something is filled in.
    """

    name: str
    family: Family
    intent: str
    answer: Answer
    seen: bool
    parts: tuple[str, ...]

    @property
    def slots(self) -> frozenset[str]:
        """What it needs."""
        return frozenset(part[1:-1] for part in self.parts if _is_slot(part))

    @property
    def free_text(self) -> bool:
        """Whether the answer is text of the model's own; its blank is then a [sMASK]."""
        return self.answer in _FREE_TEXTS

    def fill(self, values: Mapping[str, Sequence[Unit]]) -> list[Unit]:
        """The prompt as units.

        Args:
            values: units of every slot.

        Raises:
            ConfigError: a slot has no value.
        """
        parts: list[Sequence[Unit]] = []
        tight = False  # what comes next touches the last part
        for part in self.parts:
            if not _is_slot(part):
                parts.append([plain(part, space=part[0] not in _ATTACHED and not tight)])
                tight = part[-1] in _OPENED
                continue
            found = values.get(part[1:-1])
            if not found:
                raise ConfigError(f"template {self.name}: slot {part} was given nothing")
            first = replace(found[0], space=False) if tight else found[0]
            parts.append([first, *found[1:]])
            tight = False
        return Textualizer().document(parts)


@dataclass(frozen=True)
class Prompts:
    """Templates by name, in the order of their files."""

    templates: tuple[Template, ...]

    def __len__(self) -> int:
        return len(self.templates)

    @property
    def names(self) -> list[str]:
        """Names of all."""
        return [template.name for template in self.templates]

    def __getitem__(self, name: str) -> Template:
        """A template.

        Raises:
            ConfigError: there is none of this name; names the nearest.
        """
        for template in self.templates:
            if template.name == name:
                return template
        raise ConfigError(f"prompt {name!r}; {nearest(name, self.names)}")

    def of(
        self, family: Family, *, seen: bool | None = None, intents: Iterable[str] | None = None
    ) -> list[Template]:
        """Templates of a family, by default seen and unseen, of all intents."""
        wanted = None if intents is None else set(intents)
        return [
            template
            for template in self.templates
            if template.family == family
            and (seen is None or template.seen == seen)
            and (wanted is None or template.intent in wanted)
        ]

    def number(self, template: Template) -> int:
        """Its place among all."""
        return self.templates.index(template)

    def listing(self, family: Family | None = None) -> str:
        """One line a template: name, seen or held out, intent, answer, text."""
        return "\n".join(
            f"{t.name:16} {'seen' if t.seen else 'held out':9} {t.intent:14} {t.answer:18} "
            + " ".join(t.parts)
            for t in self.templates
            if family in (None, t.family)
        )


@lru_cache(maxsize=1)
def builtin_prompts() -> Prompts:
    """The 47 templates and the 7 of other domains."""
    folder = Path(__file__).parent
    return load_prompts([folder / f"{family}.yaml" for family in FAMILIES], counts=COUNTS)


def load_prompts(paths: Sequence[Path], *, counts: Mapping[Family, int] | None = None) -> Prompts:
    """Read templates and check them.

    Args:
        paths: YAML files, one a family.
        counts: how many a family must have, as far as that matters.

    Raises:
        ConfigError: not valid; names file, template and what was expected.
    """
    templates: list[Template] = []
    for path in paths:
        family = _read(path)
        if counts is not None and len(family) != counts[family[0].family]:
            raise ConfigError(
                f"{path}: {len(family)} templates, expected {counts[family[0].family]}"
            )
        templates.extend(family)
    names = [template.name for template in templates]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigError(f"prompts: {repeated[0]!r} names several templates, expected one")
    return Prompts(tuple(templates))


def _read(path: Path) -> list[Template]:
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries = _File.model_validate(content)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file of prompts") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML ({error})") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise ConfigError(f"{path}: {place}: {first['msg']}, found {first['input']!r}") from None
    family = [
        Template(e.name, entries.family, e.intent, e.answer, e.seen, tuple(e.parts))
        for e in entries.templates
    ]
    for template in family:
        _check(template, path)
    _check_held_out(family, path)
    return family


def _check(template: Template, path: Path) -> None:
    where = f"{path}: {template.name}"
    sequential = template.family in ("sequential", "direct")
    allowed = ("item", "verdict") if sequential else tuple(set(get_args(Answer)) - {"item"})
    if template.answer not in allowed:
        raise ConfigError(
            f"{where}: answer {template.answer!r} in family {template.family}; "
            f"{nearest(template.answer, allowed)}"
        )
    slots_here = _OF_SEQUENCES if sequential else _OF_REVIEWS
    before = ""
    for part in template.parts:
        if _is_slot(part) and part[1:-1] not in slots_here:
            raise ConfigError(f"{where}: slot {part}; {nearest(part[1:-1], slots_here)}")
        if _is_slot(part) and _is_slot(before):
            raise ConfigError(f"{where}: {before} touches {part}; expected words between them")
        if not part.strip():
            raise ConfigError(f"{where}: an empty part")
        if not _is_slot(part) and ("<" in part or ">" in part):
            raise ConfigError(
                f"{where}: {part!r}; a slot is a part of its own, as in [for, <user>]"
            )
        before = part
    slots = [part for part in template.parts if _is_slot(part)]
    if len(set(slots)) < len(slots):
        raise ConfigError(f"{where}: a slot occurs twice")
    if _is_slot(before):
        raise ConfigError(f"{where}: ends with {before}; expected words before the answer")


def _check_held_out(family: Sequence[Template], path: Path) -> None:
    """What is held out is a paraphrase of something seen, else it could not be answered."""
    seen = {(t.answer, t.intent, _people_alike(t)) for t in family if t.seen}
    for template in family:
        known = (template.answer, template.intent, _people_alike(template)) in seen
        if not template.seen and seen and not known:
            raise ConfigError(
                f"{path}: {template.name} is held out, but no seen template has its intent, slots "
                "and answer"
            )


def _people_alike(template: Template) -> frozenset[str]:
    return frozenset("user" if slot == "user_name" else slot for slot in template.slots)


def _is_slot(part: str) -> bool:
    return part.startswith("<") and part.endswith(">")
