"""Names of items and users in texts, and sentences about them.

P5 falls back to one literal where a title is missing, so that with text many items would be the
same entity. Here such an item is named by what else is known of it and its number, equal titles
are told apart by a suffix, and both are counted.

RecSysLLM, section 3.1: user features are written out as text, and their values are entities.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from legos.config.saved import known_description
from legos.data.numbers import written
from legos.data.tables import Tables
from legos.data.vector_files import read_item_codes
from legos.errors import CheckpointError, DataError
from legos.runs.identity import TABLES, tables_content
from legos.systems.recsysllm.prompts import Template
from legos.systems.recsysllm.settings import ItemText
from legos.systems.recsysllm.units import NEVER_DROPPED, Unit, entity

ITEM, USER, BRAND, NAME, VALUE = "item", "user", "brand", "name", "value"
_USER_ID = "user_id"
_NAMES = ("name", "user_name", "reviewer_name", "nickname")  # fields of users that are their names
_SHORT_TEXT = 16  # tokens of the longest value of a text that is an attribute
_MAX_WORDS = 8  # of a value; longer ones lose their ends


@dataclass(frozen=True)
class Feature:
    """A field of items or users.

    Attributes:
        field: its name in the tables.
        values: of every row, "" where unknown.
        is_entity: a value is masked as a whole; numbers are not.
    """

    field: str
    values: Sequence[str]
    is_entity: bool = True

    @property
    def name(self) -> str:
        """The field in words."""
        return self.field.replace("_", " ")

    def unit(self, row: int, *, event: int = NEVER_DROPPED) -> Unit:
        """The value of a row, which has one."""
        if self.is_entity:
            return entity(self.values[row], VALUE, event=event)
        return Unit(self.values[row], event=event)


@dataclass(frozen=True)
class Catalogue:
    """Names and descriptions of items and users for prompts.

    Attributes:
        items: name of every item, all different.
        users: of every user, all different.
        brands: of every item, "" where unknown.
        prices: of every item, "" where unknown.
        counts: ``missing`` titles, ``duplicate`` ones, ``cut`` ones.
        names: what users are called, "" where unknown; empty: nobody has a name.
        of_users, of_items: what else is known of them.
    """

    items: Sequence[str]
    users: Sequence[str]
    brands: Sequence[str]
    prices: Sequence[str]
    counts: Mapping[str, int] = field(default_factory=dict)
    names: Sequence[str] = ()
    of_users: Sequence[Feature] = ()
    of_items: Sequence[Feature] = ()

    @classmethod
    def from_tables(
        cls,
        tables: Tables,
        *,
        item_text: ItemText = "title",
        item_codes: Path | None = None,
        max_words: int = 30,
        features: bool = True,
    ) -> Catalogue:
        """Name the items of tables by titles, numbers or semantic codes; users by numbers.

        Users are also called by a category of theirs that is a name, where there is one.

        Args:
            item_codes: file of semantic codes, for an ``item_text`` that has them.
            features: whether what else is known of them is read.

        Raises:
            DataError: there is no field ``title`` or no file of codes of these items.
        """
        users = [f"user_{number}" for number in range(tables.num_users)]
        brands, prices = _texts(tables, "brand"), _texts(tables, "price")
        names, of_users = _of_users(tables)
        known = (names, of_users, _of_items(tables)) if features else (names, (), ())
        if item_text == "id":
            items = [f"item_{number}" for number in range(tables.num_items)]
            return cls(items, users, brands, prices, {}, *known)
        if item_text != "codes" and "title" not in tables.manifest["fields"]:
            raise DataError(f"{tables.folder}: no field 'title'; use item_text: id")
        categories = _texts(tables, "categories", "category")
        about = [" ".join(filter(None, both)) for both in zip(brands, categories, strict=True)]
        codes = [] if item_codes is None else _code_words(read_item_codes(item_codes, tables))
        named = codes if item_text == "codes" else tables.texts("title")
        items, counts = item_names(named, about, max_words=max_words)
        if item_text == "title_and_codes":
            items = [" ".join(filter(None, both)) for both in zip(items, codes, strict=True)]
        return cls(items, users, brands, prices, counts, *known)

    def item(self, number: int, *, event: int = NEVER_DROPPED) -> list[Unit]:
        """An item as an entity."""
        return [entity(self.items[number], ITEM, number, event=event)]

    def user(self, number: int) -> list[Unit]:
        """A user as an entity."""
        return [entity(self.users[number], USER, number)]

    def user_name(self, number: int) -> list[Unit]:
        """The name of a user as an entity; without a name as :meth:`user`."""
        name = self.names[number] if number < len(self.names) else ""
        return [entity(name, NAME, number)] if name else self.user(number)

    def about_user(self, number: int, subject: Sequence[Unit]) -> list[Unit]:
        """A sentence about a user; empty if nothing is known."""
        return _described(subject, self.of_users, number)

    def about_item(self, number: int, *, event: int = NEVER_DROPPED) -> list[Unit]:
        """A sentence about an item; empty if nothing is known."""
        return _described(self.item(number, event=event), self.of_items, number, event=event)

    def fill(
        self,
        template: Template,
        values: Mapping[str, Sequence[Unit]],
        *,
        user: int,
        item: int | None = None,
    ) -> list[Unit]:
        """Fill a prompt, preceded by sentences about its user and its item.

        Args:
            values: of the slots but those of the user.
            item: which ``<item>`` is; None: nothing is said of it. Where the template itself names
                attributes nothing is, either.

        Raises:
            ConfigError: a slot has no value.
        """
        of_user = {"user": self.user(user), "user_name": self.user_name(user)}
        subject = of_user["user" if "user" in template.slots else "user_name"]
        before = self.about_user(user, subject)
        if item is not None and "item" in template.slots and not template.slots & _ATTRIBUTES:
            before += self.about_item(item)
        return template.fill({**of_user, **values}, before=before)

    def brand(self, number: int) -> list[Unit]:
        """The brand of an item; empty if unknown."""
        name = self.brands[number]
        return [entity(name, BRAND, number)] if name.strip() else []

    def history(self, numbers: Sequence[int], *, arrow: bool = False) -> list[Unit]:
        """Items of the history; if too many for a prompt, the oldest are dropped."""
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
        values = (each.values for each in (*self.of_users, *self.of_items) if each.is_entity)
        more = {NAME: self.names, VALUE: chain.from_iterable(values)}
        for kind, found in more.items():
            if different := [text for text in dict.fromkeys(found) if text]:
                texts[kind] = different
        return texts


_ATTRIBUTES = frozenset({"brand", "price"})


def _code_words(codes: Tensor) -> list[str]:
    """Codes ``(N, L)`` as words, one letter per level: ``a12 b200 c7``; "" without codes."""
    rows = (enumerate(row) for row in codes.tolist())
    return [
        " ".join(f"{chr(97 + level)}{code}" for level, code in row if code >= 0) for row in rows
    ]


def _described(
    subject: Sequence[Unit],
    features: Sequence[Feature],
    row: int,
    *,
    event: int = NEVER_DROPPED,
) -> list[Unit]:
    """The sentence "<subject> has the <name> <value>, the <name> <value>."."""
    units: list[Unit] = []
    for each in features:
        if row < len(each.values) and each.values[row]:
            begin = Unit(f", the {each.name}", space=False, event=event)
            units += [begin if units else Unit(f"has the {each.name}", event=event)]
            units += [each.unit(row, event=event)]
    return [*subject, *units, Unit(".", space=False, event=event)] if units else []


def _of_users(tables: Tables) -> tuple[Sequence[str], Sequence[Feature]]:
    """Names of users, and their other categories and numbers."""
    kinds = {name: known["kind"] for name, known in tables.manifest.get("user_fields", {}).items()}
    features = {
        name: Feature(name, _values(tables, "users", name, kind), kind != "number")
        for name, kind in kinds.items()
        if kind in ("category", "number")
    }
    called = next((features.pop(name).values for name in _NAMES if name in features), ())
    return called, list(features.values())


def _of_items(tables: Tables) -> list[Feature]:
    """Categories, numbers and short texts of items but for their titles.

    A way of categories is left out where its steps are fields.
    """
    features, fields = [], tables.manifest["fields"]
    for name, known in fields.items():
        if name == "title" or (name == "categories" and "category" in fields):
            continue
        if known["kind"] == "text" and not _is_short(tables, name, known):
            continue
        values = _values(tables, "items", name, known["kind"])
        features.append(Feature(name, values, known["kind"] != "number"))
    return features


def _is_short(tables: Tables, name: str, known: Mapping[str, Sequence[str]]) -> bool:
    """Whether no value of a text has many tokens."""
    lengths = tables.lists("items", f"{name}@{known['tokenizers'][0]}").lengths
    return len(lengths) > 0 and int(lengths.max()) <= _SHORT_TEXT


def _values(tables: Tables, table: str, name: str, kind: str) -> list[str]:
    """The values of a field as text, "" where unknown."""
    if kind == "number":
        return written(tables.scalar(table, name).numpy())
    texts = tables.texts(name) if kind == "text" else _categories(tables, table, name)
    cut = {text: " ".join(text.split()[:_MAX_WORDS]) for text in set(texts)}
    return [cut[text] for text in texts]


def _categories(tables: Tables, table: str, name: str) -> list[str]:
    """The category of every row, "" where unknown."""
    entries = tables.vocabulary(str(tables.column(table, name)["vocabulary"]))
    texts = ["" if entry[:1] + entry[-1:] == "<>" else entry for entry in entries]  # as <unknown>
    return [texts[code] for code in tables.scalar(table, name).tolist()]


def further_names(known: Sequence[str], titles: Sequence[str], *, max_words: int) -> list[str]:
    """Names of new items beside known ones, which keep theirs; all different."""
    cut = [" ".join(title.split()[:max_words]) for title in titles]
    names, _ = item_names([*known, *cut], [""] * (len(known) + len(cut)), max_words=2**31)
    return names[len(known) :]


def item_names(
    titles: Sequence[str], about: Sequence[str], *, max_words: int
) -> tuple[list[str], dict[str, int]]:
    """Name items by titles of at most so many words, all different.

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
    """The first of these text fields that the tables have, for every item; "" if unknown."""
    for name in names:
        known = tables.manifest["fields"].get(name)
        if known is not None and known["kind"] in ("text", "number"):
            return tables.texts(name)
        if known is not None and tables.column("items", name)["kind"] == "scalar":
            return _categories(tables, "items", name)
    return [""] * tables.num_items


@dataclass(frozen=True)
class Origin:
    """The other tables on which a measured model was trained: zero-shot transfer.

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
        """Read from the run or checkpoint ``load``; None: trained on these tables, or here."""
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
        """The name of each user of the present tables."""
        numbers = {user: number for number, user in enumerate(self.users)}
        count = len(numbers)
        return [
            f"user_{numbers.get(user, count + number)}" if count else f"guest_{number}"
            for number, user in enumerate(tables.vocabulary(_USER_ID))
        ]

    def known_users(self, tables: Tables) -> Tensor:
        """``(U,)`` bool: users of both data sets."""
        known = set(self.users)
        return torch.tensor([user in known for user in tables.vocabulary(_USER_ID)])
