"""Prompt templates of the five task families, and of items of another domain.

RecSysLLM trains on the task families of P5 (Geng et al., "Recommendation as language processing",
RecSys 2022): 10 templates of rating, 13 sequential, 12 of explanation, 4 of reviews and 8 of direct
recommendation; the last of each family is held out to test wordings that training never saw, and 7
more are for items of other domains. Intents, slots and answers are P5's, the wordings our own.

``python -m legos.systems.recsysllm.prompts [--family rating]`` lists them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import nan
from pathlib import Path
from typing import Annotated, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from legos.errors import ConfigError, nearest
from legos.systems.recsysllm.units import Unit, document_of, plain

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
NOBODY = -1
_OF_REVIEWS: tuple[SlotName, ...] = (
    "user", "user_name", "item", "stars", "headline", "body", "feature", "brand", "price",
)  # fmt: skip
_OF_SEQUENCES: tuple[SlotName, ...] = ("user", "user_name", "item", "history", "candidates")
_FREE_TEXTS: tuple[Answer, ...] = ("explanation", "stars-explanation", "headline")
_ATTACHED = '.,:;?!")'  # no blank before a plain part that begins with one of these
_OPENED = '"'  # nor before a slot after a plain part that ends with this


class Template(BaseModel):
    """One prompt; its answer follows at the end."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
    name: str
    family: Family
    intent: str
    """What is asked; templates of one intent are paraphrases."""
    answer: Answer
    seen: bool = True
    """Whether training uses it."""
    parts: Annotated[tuple[str, ...], Field(min_length=2)]
    """Words, and ``<slot>`` where a value goes."""

    @cached_property
    def slots(self) -> frozenset[str]:
        """Names of the values it needs."""
        return frozenset(part[1:-1] for part in self.parts if _is_slot(part))

    @property
    def free_text(self) -> bool:
        """Whether the answer is free text, whose blank is a [sMASK]."""
        return self.answer in _FREE_TEXTS

    def fill(self, values: Mapping[str, Sequence[Unit]]) -> list[Unit]:
        """The prompt as units, from the units of every slot.

        Raises:
            ConfigError: a slot has no value.
        """
        parts: list[Sequence[Unit]] = []
        tight = False  # the next part touches the last one
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
        return document_of(parts)


@dataclass(frozen=True)
class Instance:
    """A filled template.

    Attributes:
        template: which.
        prompt: units of Part A before the mask.
        answer: units of Part B.
        reference: the answer as text.
        user, item: whom and what it is about, or ``NOBODY``; in sequential and direct tasks the
            item asked for or offered.
        stars: true rating, NaN where there is none.
        candidates: items to choose from, in the order shown.
        shown: every item that prompt or answer name, for checks.
    """

    template: Template
    prompt: Sequence[Unit]
    answer: Sequence[Unit]
    reference: str
    user: int = NOBODY
    item: int = NOBODY
    stars: float = nan
    candidates: tuple[int, ...] = ()
    shown: tuple[int, ...] = ()


@dataclass(frozen=True)
class Prompts:
    """Templates by name, in the order of their file."""

    templates: tuple[Template, ...]

    def __getitem__(self, name: str) -> Template:
        """A template.

        Raises:
            ConfigError: no template has this name; says the nearest.
        """
        for template in self.templates:
            if template.name == name:
                return template
        raise ConfigError(f"prompt {name!r}; {nearest(name, [t.name for t in self.templates])}")

    def named(self, name: str, family: Family) -> Template:
        """A template of a family.

        Raises:
            ConfigError: it is unknown, or of another family.
        """
        template = self[name]
        if template.family != family:
            raise ConfigError(
                f"prompt {name!r} is of family {template.family}, expected one of {family}"
            )
        return template

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


@lru_cache(maxsize=1)
def builtin_prompts() -> Prompts:
    """The 47 templates and the 7 of other domains."""
    return load_prompts(Path(__file__).with_suffix(".yaml"))


def load_prompts(path: Path) -> Prompts:
    """Read templates by family from a YAML and check them.

    Raises:
        ConfigError: names file, template and what was expected.
    """
    templates: list[Template] = []
    for family, entries in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        for entry in entries:
            try:
                templates.append(Template(family=family, **entry))
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(map(str, (entry.get("name", family), *first["loc"])))
                raise ConfigError(
                    f"{path}: {place}: {first['msg']}, found {first['input']!r}"
                ) from None
    names = [template.name for template in templates]
    seen = {_question(template) for template in templates if template.seen}
    for template in templates:
        where = f"{path}: {template.name}"
        if names.count(template.name) > 1:
            raise ConfigError(f"{where} names several templates, expected one")
        _check(template, where)
        trained = any(family == template.family for family, *_ in seen)
        if not template.seen and trained and _question(template) not in seen:
            raise ConfigError(
                f"{where} is held out, but no seen template has its intent, slots and answer"
            )
    return Prompts(tuple(templates))


def _check(template: Template, where: str) -> None:
    sequential = template.family in ("sequential", "direct")
    answers = ("item", "verdict") if sequential else tuple(set(get_args(Answer)) - {"item"})
    if template.answer not in answers:
        raise ConfigError(
            f"{where}: answer {template.answer!r} in family {template.family}; "
            f"{nearest(template.answer, answers)}"
        )
    slots = _OF_SEQUENCES if sequential else _OF_REVIEWS
    before = ""
    for part in template.parts:
        if not part.strip():
            raise ConfigError(f"{where}: an empty part")
        if _is_slot(part):
            if part[1:-1] not in slots:
                raise ConfigError(f"{where}: slot {part}; {nearest(part[1:-1], slots)}")
            if _is_slot(before):
                raise ConfigError(f"{where}: {before} touches {part}; expected words between them")
            if template.parts.count(part) > 1:
                raise ConfigError(f"{where}: slot {part} occurs twice")
        elif "<" in part or ">" in part:
            raise ConfigError(
                f"{where}: {part!r}; a slot is a part of its own, as in [for, <user>]"
            )
        before = part
    if _is_slot(before):
        raise ConfigError(f"{where}: ends with {before}; expected words before the answer")


def _question(template: Template) -> tuple[Family, Answer, str, frozenset[str]]:
    """What paraphrases have in common."""
    slots = frozenset("user" if slot == "user_name" else slot for slot in template.slots)
    return template.family, template.answer, template.intent, slots


def _is_slot(part: str) -> bool:
    return part.startswith("<") and part.endswith(">")


def main() -> None:
    """Print one line a template: name, seen or held out, intent, answer, text."""
    parser = argparse.ArgumentParser(description="Prompt templates of RecSysLLM.")
    parser.add_argument("--family", choices=FAMILIES, help="only this family")
    family = parser.parse_args().family
    for template in builtin_prompts().templates:
        if family in (None, template.family):
            kind = "seen" if template.seen else "held out"
            print(
                f"{template.name:16} {kind:9} {template.intent:14} {template.answer:18} "
                + " ".join(template.parts)
            )


if __name__ == "__main__":
    main()
