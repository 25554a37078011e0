"""Prompt templates of the task families, and the names of items and users that fill them.

RecSysLLM trains on the task families of P5 (Geng et al., "Recommendation as language processing",
RecSys 2022): 10 templates of rating, 13 sequential, 12 of explanation, 4 of reviews and 8 of direct
recommendation; the last of each family is held out to test wordings that training never saw, and 7
more are for items of other domains. Intents, slots and answers are P5's, the wordings our own.

``python -m legos.systems.recsysllm.prompts [--family rating]`` lists them.

P5 falls back to one literal where a title is missing, so that with text many items would be the
same entity. Here such an item is named by what else is known of it and its number, equal titles
are told apart by a suffix, and both are counted.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from math import nan
from pathlib import Path
from typing import Annotated, Literal, get_args

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from legos.config.saved import known_description
from legos.data.tables import Tables
from legos.errors import CheckpointError, ConfigError, DataError, nearest
from legos.runs.identity import TABLES, tables_content
from legos.systems.recsysllm.units import NEVER_DROPPED, Unit, document_of, entity, plain

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

    def fill(self, values: Mapping[str, Sequence[Unit]]) -> list[Unit]:
        """The prompt as units, from the units of every slot; ConfigError: a slot has no value."""
        parts: list[Sequence[Unit]] = []
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
    """

    template: Template
    prompt: Sequence[Unit]
    answer: Sequence[Unit]
    reference: str
    user: int
    item: int
    stars: float = nan
    candidates: tuple[int, ...] = ()


@dataclass(frozen=True)
class Prompts:
    """Templates by name, in the order of their file."""

    templates: tuple[Template, ...]

    def __getitem__(self, name: str) -> Template:
        """A template; ConfigError where none has this name, with the nearest."""
        for template in self.templates:
            if template.name == name:
                return template
        raise ConfigError(f"prompt {name!r}; {nearest(name, [t.name for t in self.templates])}")

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


ITEM, USER, BRAND = "item", "user", "brand"
_USER_ID = "user_id"


@dataclass(frozen=True)
class Catalogue:
    """What stands for items and users in prompts.

    Attributes:
        items: name of every item, all different.
        users: of every user, all different.
        brands: of every item, "" where unknown.
        prices: of every item, "" where unknown.
        counts: ``missing`` titles, ``duplicate`` ones, ``cut`` ones.
    """

    items: Sequence[str]
    users: Sequence[str]
    brands: Sequence[str]
    prices: Sequence[str]
    counts: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_tables(
        cls, tables: Tables, *, item_text: Literal["title", "id"] = "title", max_words: int = 30
    ) -> Catalogue:
        """Name the items of tables by their titles, or by numbers; users by numbers.

        Raises:
            DataError: titles are asked for and there is no field ``title``.
        """
        users = [f"user_{number}" for number in range(tables.num_users)]
        brands, prices = _texts(tables, "brand"), _texts(tables, "price")
        if item_text == "id":
            items = [f"item_{number}" for number in range(tables.num_items)]
            return cls(items, users, brands, prices)
        if "title" not in tables.manifest["fields"]:
            raise DataError(f"{tables.folder}: no field 'title'; use item_text: id")
        categories = _texts(tables, "categories", "category")
        about = [" ".join(filter(None, both)) for both in zip(brands, categories, strict=True)]
        items, counts = item_names(tables.texts("title"), about, max_words=max_words)
        return cls(items, users, brands, prices, counts)

    def item(self, number: int) -> list[Unit]:
        """An item as an entity."""
        return [entity(self.items[number], ITEM, number)]

    def user(self, number: int) -> list[Unit]:
        """A user as an entity."""
        return [entity(self.users[number], USER, number)]

    def brand(self, number: int) -> list[Unit]:
        """The brand of an item, nothing where it is unknown."""
        name = self.brands[number]
        return [entity(name, BRAND, number)] if name.strip() else []

    def history(self, numbers: Sequence[int], *, arrow: bool = False) -> list[Unit]:
        """Items of the past; those too many for a prompt are dropped from the oldest on."""
        return self._listed(numbers, range(len(numbers)), arrow=arrow)

    def candidates(
        self, numbers: Sequence[int], *, right: int | None = None, past: int = 0
    ) -> list[Unit]:
        """Items to choose from.

        Args:
            numbers: of the items.
            right: where a prompt has too many tokens, others than this one are dropped, after all
                of the past; None: none ever is.
            past: how many events the prompt tells of.
        """
        events = [
            NEVER_DROPPED if right in (None, number) else past + nth
            for nth, number in enumerate(numbers)
        ]
        return self._listed(numbers, events)

    def _listed(
        self, numbers: Sequence[int], events: Sequence[int], *, arrow: bool = False
    ) -> list[Unit]:
        """Items with something between them, which is dropped with the item before it."""
        units: list[Unit] = []
        for number, event in zip(numbers, events, strict=True):
            units.append(entity(self.items[number], ITEM, number, event=event))
            units.append(Unit("->" if arrow else ",", space=arrow, event=event))
        return units[:-1]

    def entities(self) -> dict[str, list[str]]:
        """Texts by entity type, for the pool."""
        texts = {ITEM: list(self.items), USER: list(self.users)}
        if any(brand.strip() for brand in self.brands):
            texts[BRAND] = [brand if brand.strip() else "no brand" for brand in self.brands]
        return texts


def further_names(known: Sequence[str], titles: Sequence[str], *, max_words: int) -> list[str]:
    """Names of new items beside known ones, which keep theirs; all different."""
    cut = [" ".join(title.split()[:max_words]) for title in titles]
    names, _ = item_names([*known, *cut], [""] * (len(known) + len(cut)), max_words=2**31)
    return names[len(known) :]


def item_names(
    titles: Sequence[str], about: Sequence[str], *, max_words: int
) -> tuple[list[str], dict[str, int]]:
    """One name an item, all different, of titles that are cut to so many words.

    ``about`` is what else is known (brand and category), for items without a title. Counted are the
    titles that were ``missing``, ``duplicate`` (the first of equal ones is not) and ``cut``.
    """
    words = [title.split() for title in titles]
    cut = sum(len(own) > max_words for own in words)
    names = [" ".join(own[:max_words]) for own in words]
    missing = [not name for name in names]
    for number, is_missing in enumerate(missing):
        if is_missing:
            known = " ".join(about[number].split()[:max_words])
            names[number] = f"{known or 'untitled'} #{number}"
    times = Counter(name.lower() for name in names)
    used = set(times)
    met: Counter[str] = Counter()
    duplicate = 0
    for number, name in enumerate(names):
        key = name.lower()
        met[key] += 1
        if met[key] == 1:
            continue
        duplicate += 1
        suffix = met[key]
        while f"{key} ({suffix})" in used:
            suffix += 1
        names[number] = f"{name} ({suffix})"
        used.add(names[number].lower())
    return names, {"missing": sum(missing), "duplicate": duplicate, "cut": cut}


def _texts(tables: Tables, *names: str) -> list[str]:
    """Of every item the first of these fields that tables have as text, "" where unknown."""
    for name in names:
        known = tables.manifest["fields"].get(name)
        if known is not None and known["kind"] in ("text", "number"):
            return tables.texts(name)
        if known is not None and (column := tables.column("items", name))["kind"] == "scalar":
            entries = tables.vocabulary(str(column["vocabulary"]))
            texts = [entries[code] for code in tables.scalar("items", name).tolist()]
            return ["" if text.startswith("<") else text for text in texts]
    return [""] * tables.num_items


@dataclass(frozen=True)
class Origin:
    """Where a model that is measured was trained, if that was on other tables: zero-shot transfer.

    Nothing of the tables at hand is trained with. Whoever has the same id in both keeps the name
    that was trained; everyone else gets one that nobody had.

    Attributes:
        name: of the data set that was trained on.
        users: ids of its users, in the order of their numbers there; empty where its tables are
            not on this machine.
    """

    name: str
    users: Sequence[str] = ()

    @classmethod
    def of_run(cls, load: Path | None, tables: Tables) -> Origin | None:
        """Of the run folder or checkpoint ``load``; None: trained on these very tables, or here."""
        trained = None if load is None else known_description(load)
        if trained is None:
            return None
        data, content = trained.config.data, trained.sources.get(TABLES)
        if content is None:
            raise CheckpointError(
                f"{trained.folder}: its config.json does not say which tables were read "
                f"(sources: {TABLES}); was it edited?"
            )
        if content == tables_content(tables):
            return None
        if (data.folder / "manifest.json").is_file():
            read = Tables.load(data.folder)
            if tables_content(read) == content:  # still those that were trained on
                return cls(data.name, read.vocabulary(_USER_ID))
        return cls(data.name)

    def user_names(self, tables: Tables) -> list[str]:
        """What stands for each user of the tables at hand."""
        numbers = {user: number for number, user in enumerate(self.users)}
        count = len(numbers)
        return [
            f"user_{numbers.get(user, count + number)}" if count else f"guest_{number}"
            for number, user in enumerate(tables.vocabulary(_USER_ID))
        ]

    def known_users(self, tables: Tables) -> Tensor:
        """``(U,)`` bool: a user of both."""
        known = set(self.users)
        return torch.tensor([user in known for user in tables.vocabulary(_USER_ID)])


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
