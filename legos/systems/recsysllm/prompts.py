"""Prompt templates of the task families.

RecSysLLM trains on the task families of P5 (Geng et al., "Recommendation as language processing",
RecSys 2022): 10 templates of rating, 13 sequential, 12 of explanation, 4 of reviews and 8 of direct
recommendation; the last of each family is held out to test wordings that training never saw, and 7
more are for items of other domains. Intents, slots and answers are P5's, the wordings our own.

``python -m legos.systems.recsysllm.prompts [--family rating]`` lists them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import nan
from pathlib import Path
from typing import Annotated, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field

from legos.errors import ConfigError, nearest
from legos.systems.recsysllm.units import Unit, document_of, plain

Family = Literal["rating", "sequential", "explanation", "review", "direct", "transfer"]
Answer = Literal[
    "stars", "whole-stars", "verdict", "liking", "item", "explanation", "stars-explanation",
    "headline",
]  # fmt: skip
FAMILIES: tuple[Family, ...] = get_args(Family)
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

    def fill(
        self, values: Mapping[str, Sequence[Unit]], *, before: Sequence[Unit] = ()
    ) -> list[Unit]:
        """The prompt as units.

        Args:
            values: units of every slot.
            before: whole sentences before the template's own.

        Raises:
            ConfigError: a slot has no value.
        """
        parts: list[Sequence[Unit]] = [before]
        tight = False  # the next part touches the last one
        for part in self.parts:
            if not _is_slot(part):
                parts.append([plain(part, space=part[0] not in _ATTACHED and not tight)])
                tight = part[-1] in _OPENED
                continue
            units = values.get(part[1:-1])
            if not units:
                raise ConfigError(f"template {self.name}: slot {part} was given nothing")
            first = replace(units[0], space=False) if tight else units[0]
            parts.append([first, *units[1:]])
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
        user, item: whom and what it is about; in sequential and direct tasks the item asked for or
            offered.
        stars: true rating, NaN where there is none.
        candidates: items to choose from, in the order shown.
        feature: what an explanation is about, "" where there is none.
    """

    template: Template
    prompt: Sequence[Unit]
    answer: Sequence[Unit]
    reference: str
    user: int
    item: int
    stars: float = nan
    candidates: tuple[int, ...] = ()
    feature: str = ""


@dataclass(frozen=True)
class Prompts:
    """Templates by name, in the order of their file."""

    templates: tuple[Template, ...]

    def __getitem__(self, name: str) -> Template:
        """A template; ConfigError where none has this name, with the nearest."""
        for template in self.templates:
            if template.name == name:
                return template
        raise ConfigError(f"no prompt {name!r}; {nearest(name, [t.name for t in self.templates])}")

    def named(self, name: str, family: Family) -> Template:
        """A template of a family; ConfigError where it is unknown, or of another."""
        template = self[name]
        if template.family != family:
            raise ConfigError(
                f"prompt {name!r} is of family {template.family}, expected one of {family}"
            )
        return template

    def of(
        self, family: Family, *, seen: bool | None = None, intent: str | None = None
    ) -> list[Template]:
        """Templates of a family, by default seen and unseen, of all intents."""
        return [
            template
            for template in self.templates
            if template.family == family
            and seen in (None, template.seen)
            and intent in (None, template.intent)
        ]


@lru_cache(maxsize=1)
def builtin_prompts() -> Prompts:
    """The 47 templates and the 7 of other domains."""
    families = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    return Prompts(
        tuple(Template(family=name, **entry) for name, some in families.items() for entry in some)
    )


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
