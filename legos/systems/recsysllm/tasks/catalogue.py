"""Names of items and users, as entities: every item has one of its own; and who was trained on.

P5 falls back to one literal where a title is missing, so that with text many items would be the
same entity. Here such an item is named by what else is known of it and its number, equal titles
are told apart by a suffix, and both are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from legos.config.saved import known_description
from legos.data.tables import Tables
from legos.errors import CheckpointError, DataError
from legos.runs.identity import TABLES, tables_content
from legos.systems.recsysllm.units import NEVER_DROPPED, Textualizer, Unit, entity

ITEM, USER, USER_NAME, BRAND = "item", "user", "user name", "brand"
ENTITY_TYPES = (ITEM, USER, USER_NAME, BRAND)
ARROW = "->"


@dataclass(frozen=True)
class Catalogue:
    """What stands for items and users in prompts.

    Attributes:
        items: name of every item, all different.
        users: of every user, all different.
        user_names: what users call themselves, "" where unknown; their number then stands for it.
        brands: of every item, "" where unknown.
        prices: of every item, "" where unknown.
        counts: ``missing`` titles, ``duplicate`` ones, ``cut`` ones.
    """

    items: Sequence[str]
    users: Sequence[str]
    user_names: Sequence[str] = ()
    brands: Sequence[str] = ()
    prices: Sequence[str] = ()
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
        brands = _texts(tables, "brand")
        prices = _texts(tables, "price")
        if item_text == "id":
            items = [f"item_{number}" for number in range(tables.num_items)]
            return cls(items, users, brands=brands, prices=prices)
        if "title" not in tables.manifest["fields"]:
            raise DataError(f"{tables.folder}: no field 'title'; use item_text: id")
        categories = _texts(tables, "categories") or _texts(tables, "category")
        about = [
            " ".join(filter(None, parts))
            for parts in zip(
                brands or [""] * tables.num_items,
                categories or [""] * tables.num_items,
                strict=True,
            )
        ]
        items, counts = item_names(tables.texts("title"), about, max_words=max_words)
        return cls(items, users, brands=brands, prices=prices, counts=counts)

    def item(self, number: int) -> list[Unit]:
        """An item as an entity."""
        return [entity(self.items[number], ITEM, number)]

    def user(self, number: int) -> list[Unit]:
        """A user as an entity, by number."""
        return [entity(self.users[number], USER, number)]

    def user_name(self, number: int) -> list[Unit]:
        """A user as an entity, by name where it is known."""
        name = self.user_names[number] if self.user_names else ""
        return [entity(name, USER_NAME, number)] if name.strip() else self.user(number)

    def brand(self, number: int) -> list[Unit]:
        """The brand of an item, nothing where it is unknown."""
        name = self.brands[number] if self.brands else ""
        return [entity(name, BRAND, number)] if name.strip() else []

    def price(self, number: int) -> str:
        """The price of an item, "" where it is unknown."""
        return self.prices[number] if self.prices else ""

    def history(self, numbers: Sequence[int], *, arrow: bool = False) -> list[Unit]:
        """Items of the past; those too many for a prompt are dropped from the oldest on."""
        events = [(self.items[number], ITEM, number) for number in numbers]
        written = Textualizer(separator=ARROW if arrow else ",").events(events)
        if not arrow:
            return written
        return [unit if unit.kind == "entity" else _spaced(unit) for unit in written]

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
        units: list[Unit] = []
        for place, number in enumerate(numbers):
            event = NEVER_DROPPED if right in (None, number) else past + place
            units.extend(replace(unit, event=event) for unit in self.item(number))
            units.append(Unit(",", space=False, event=event))
        return units[:-1]

    def entities(self) -> dict[str, list[str]]:
        """Texts by entity type, for the pool."""
        found = {ITEM: list(self.items), USER: list(self.users)}
        if any(name.strip() for name in self.user_names):
            found[USER_NAME] = [
                name or user for name, user in zip(self.user_names, self.users, strict=True)
            ]
        if any(brand.strip() for brand in self.brands):
            found[BRAND] = [brand if brand.strip() else "no brand" for brand in self.brands]
        return found


def item_names(
    titles: Sequence[str], about: Sequence[str], *, max_words: int
) -> tuple[list[str], dict[str, int]]:
    """One name an item, all different.

    Args:
        titles: of every item, "" where unknown.
        about: what else is known (brand and category), for items without a title.
        max_words: longer titles are cut first.

    Returns:
        names, and how many titles were ``missing``, ``duplicate`` (the first of equal ones is not
        counted) and ``cut``.
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


def _texts(tables: Tables, name: str) -> list[str]:
    known = tables.manifest["fields"].get(name)
    if known is None:
        return []
    if known["kind"] == "text":
        return tables.texts(name)
    column = tables.column("items", name)
    if column["kind"] != "scalar":
        return []
    entries = tables.vocabulary(str(column["vocabulary"]))
    texts = [entries[code] for code in tables.scalar("items", name).tolist()]
    return ["" if text.startswith("<") else text for text in texts]


def _spaced(unit: Unit) -> Unit:
    return Unit(unit.text, space=True, event=unit.event)


_USER_ID = "user_id"


@dataclass(frozen=True)
class Origin:
    """Other tables.

    Attributes:
        name: of the data set that was trained on.
        users: ids of its users, in the order of their numbers there; empty where its tables are
            not on this machine.
    """

    name: str
    users: Sequence[str] = ()

    @classmethod
    def of_run(cls, load: Path | None, tables: Tables) -> Origin | None:
        """Where the run that is loaded was trained; None: on these very tables, or untold.

        Args:
            load: a run folder, or a checkpoint in one; None: the run of the same settings.
            tables: to be measured on.
        """
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
        return cls(data.name, _users_of(data.folder, content))

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


def _users_of(folder: Path, content: str) -> Sequence[str]:
    """Of tables that are still those that were trained on."""
    if not (folder / "manifest.json").is_file():
        return ()
    tables = Tables.load(folder)
    return tables.vocabulary(_USER_ID) if tables_content(tables) == content else ()
