"""Names of items and users, as entities: every item has one of its own; and who was trained on.

P5 falls back to one literal where a title is missing, so that with text many items would be the
same entity. Here such an item is named by what else is known of it and its number, equal titles
are told apart by a suffix, and both are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from legos.config.saved import known_description
from legos.data.tables import Tables
from legos.errors import CheckpointError, DataError
from legos.runs.identity import TABLES, tables_content
from legos.systems.recsysllm.units import NEVER_DROPPED, Unit, entity

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
        found = {ITEM: list(self.items), USER: list(self.users)}
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


def _texts(tables: Tables, *names: str) -> list[str]:
    """Of every item the first of these fields that tables have as text, "" where unknown."""
    for name in names:
        known = tables.manifest["fields"].get(name)
        if known is not None and known["kind"] == "text":
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
