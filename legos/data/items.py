"""Item content: every field of every item in memory, and the packed content of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from legos.data.numbers import BUCKETS, NumberScale, Treatment, scale_of
from legos.data.ragged import Ragged, stack
from legos.data.tables import Tables
from legos.errors import DataError


class FieldChoice(Protocol):
    """One entry of ``data.fields``: a column, the name bricks know it by, a length."""

    @property
    def name(self) -> str: ...
    @property
    def column(self) -> str: ...
    @property
    def length(self) -> int | None: ...
    @property
    def number(self) -> Treatment | None: ...
    @property
    def buckets(self) -> int | None: ...


class LanguageInput(Protocol):
    """What a language model reads of every item: token ids, or hidden states cached below a layer.

    Row = item id. Rows stay where they are (a file, perhaps) until they are selected.
    """

    @property
    def lengths(self) -> Tensor:
        """``(items,)`` int64 rows of each item."""

    def select(self, index: Tensor) -> Ragged:
        """Items ``(N,)`` int64 -> values ``(P,)`` int64 ids or ``(P, E)`` states."""

    def to(self, device: torch.device | str) -> LanguageInput:
        """The same for use on another device."""


@dataclass(frozen=True)
class ItemField:
    """What a brick must know of an item field to build itself.

    Attributes:
        name: how bricks and batches call it.
        is_text: a list of tokens; otherwise one category id or number an item.
        vocabulary: name of its vocabulary; fields of one vocabulary share one embedding. "" of a
            number.
        size: number of entries of the vocabulary; 0 of a number.
        length: the most tokens an item has (1 for a category or a number).
        number: what becomes of a number; None of texts and categories.
    """

    name: str
    is_text: bool
    vocabulary: str
    size: int
    length: int
    number: NumberScale | None = None


@dataclass(frozen=True)
class ItemBatch:
    """The content of N items, without padding.

    Attributes:
        ids: ``(N,)`` int64 item ids.
        texts: per text field the tokens of each item; values ``(P,)`` int64.
        categories: per category field ``(N,)`` int64.
        language: what language models read of *all* items, by name; select ``ids`` from it.
        numbers: per number field ``(N,)`` float32, as the tables have them; NaN = unknown.
        everything: the store that they come from, for what reads items beside them.
    """

    ids: Tensor
    texts: Mapping[str, Ragged]
    categories: Mapping[str, Tensor]
    language: Mapping[str, LanguageInput] = field(default_factory=dict)
    numbers: Mapping[str, Tensor] = field(default_factory=dict)
    everything: ItemStore | None = None

    def __len__(self) -> int:
        return self.ids.numel()

    def of(self, ids: Tensor) -> ItemBatch:
        """The content of any items of their store: ``(M,)`` int64.

        Raises:
            DataError: these items come from none.
        """
        if self.everything is None:
            raise DataError("these items are not part of an item store")
        return self.everything.batch(ids)

    def read(self, name: str) -> Ragged:
        """What a language model reads of these N items.

        Args:
            name: ``tokens``, or a part of a cache: ``layer_4``, ``pooled``.

        Raises:
            DataError: these items have nothing of that name.
        """
        if name not in self.language:
            raise DataError(f"these items have no {name!r} for a language model to read")
        return self.language[name].select(self.ids)

    def select(self, positions: Tensor) -> ItemBatch:
        """The items at ``(M,)`` positions, in the order asked."""
        return ItemBatch(
            ids=self.ids[positions],
            texts={name: tokens.select(positions) for name, tokens in self.texts.items()},
            categories={name: values[positions] for name, values in self.categories.items()},
            language=self.language,
            numbers={name: values[positions] for name, values in self.numbers.items()},
            everything=self.everything,
        )


class ItemStore:
    """Every field of every item, as tensors on one device.

    Args:
        fields: what each field is, by name.
        texts: per text field the tokens of all items (already cut to length).
        categories: per category field ``(items,)`` int64.
        num_items: number of items.
        language: what language models read of them, by name.
        numbers: per number field ``(items,)`` float32, NaN = unknown.
        device: where all of that is.
    """

    def __init__(
        self,
        *,
        fields: Mapping[str, ItemField],
        texts: Mapping[str, Ragged],
        categories: Mapping[str, Tensor],
        num_items: int,
        language: Mapping[str, LanguageInput] | None = None,
        numbers: Mapping[str, Tensor] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.fields = dict(fields)
        self.texts = dict(texts)
        self.categories = dict(categories)
        self.num_items = num_items
        self.language = dict(language or {})
        self.numbers = dict(numbers or {})
        self.device = torch.device(device)

    def __len__(self) -> int:
        return self.num_items

    @cached_property
    def lengths(self) -> Tensor:
        """``(items,)`` int64 tokens of all that is read of an item, on the store's device."""
        lengths = torch.zeros(self.num_items, dtype=torch.int64, device=self.device)
        for tokens in (*self.texts.values(), *self.language.values()):
            lengths = lengths + tokens.lengths.to(self.device)
        return lengths

    @classmethod
    def from_tables(
        cls,
        tables: Tables,
        choices: Iterable[FieldChoice],
        *,
        table: str = "items",
        seen: Tensor | None = None,
    ) -> ItemStore:
        """Read the chosen columns; texts keep their first ``length`` tokens.

        Args:
            tables: the data set.
            choices: columns and what becomes of them.
            table: ``users`` reads users' fields instead: the same thing with users for items.
            seen: ``(items,)`` bool, what the training split shows: numbers are scaled by it. None:
                by all.

        Raises:
            DataError: a column is missing, damaged, or holds ids beyond its vocabulary; or no
                value of a number that training shows is known.
        """
        fields: dict[str, ItemField] = {}
        texts: dict[str, Ragged] = {}
        categories: dict[str, Tensor] = {}
        numbers: dict[str, Tensor] = {}
        for choice in choices:
            if choice.number is not None:
                values = numbers[choice.name] = _numbers(tables, table, choice.column)
                shown = values if seen is None else values[seen.to(values.device)]
                scale = scale_of(shown.numpy(), choice.number, choice.buckets or BUCKETS)
                if scale is None:
                    raise _no_known_number(tables, table, choice.column)
                fields[choice.name] = ItemField(choice.name, False, "", 0, 1, scale)
                continue
            described = tables.column(table, choice.column)
            vocabulary = described["vocabulary"]
            size = int(tables.manifest["vocabularies"][vocabulary]["size"])
            if described["kind"] == "list":
                tokens = tables.lists(table, choice.column)
                length = choice.length or int(tokens.lengths.max())
                kept = tokens.head(length)
                values = kept.values.long()
                texts[choice.name] = Ragged(values, kept.offsets)
            else:
                length = 1
                values = tables.scalar(table, choice.column).long()
                categories[choice.name] = values
            fields[choice.name] = ItemField(
                name=choice.name,
                is_text=choice.name in texts,
                vocabulary=vocabulary,
                size=size,
                length=length,
            )
        count = tables.num_users if table == "users" else tables.num_items
        return cls(
            fields=fields, texts=texts, categories=categories, num_items=count, numbers=numbers
        )

    def to(self, device: torch.device | str) -> ItemStore:
        """The same store on another device."""
        return ItemStore(
            fields=self.fields,
            texts={name: tokens.to(device) for name, tokens in self.texts.items()},
            categories={name: ids.to(device) for name, ids in self.categories.items()},
            num_items=self.num_items,
            language={name: read.to(device) for name, read in self.language.items()},
            numbers={name: values.to(device) for name, values in self.numbers.items()},
            device=device,
        )

    def reading(self, language: Mapping[str, LanguageInput]) -> ItemStore:
        """The same items with what language models read of them."""
        return ItemStore(
            fields=self.fields,
            texts=self.texts,
            categories=self.categories,
            num_items=self.num_items,
            language=language,
            numbers=self.numbers,
            device=self.device,
        )

    def extended(
        self, other: ItemStore, language: Mapping[str, LanguageInput] | None = None
    ) -> ItemStore:
        """These items and behind them those of another store of the same fields.

        ``language``: what language models read of all of them.
        """
        other = other.to(self.device)
        return ItemStore(
            fields=self.fields,
            texts={name: stack([own, other.texts[name]]) for name, own in self.texts.items()},
            categories={
                name: torch.cat([own, other.categories[name]])
                for name, own in self.categories.items()
            },
            num_items=self.num_items + other.num_items,
            language=language,
            numbers={
                name: torch.cat([own, other.numbers[name]]) for name, own in self.numbers.items()
            },
            device=self.device,
        )

    def whole(self) -> ItemBatch:
        """The content of all items; nothing is copied."""
        ids = torch.arange(self.num_items, device=self.device)
        return ItemBatch(ids, self.texts, self.categories, self.language, self.numbers, self)

    def batch(self, ids: Tensor) -> ItemBatch:
        """The content of the named items: ``(N,)`` int64."""
        return ItemBatch(
            ids=ids,
            texts={name: tokens.select(ids) for name, tokens in self.texts.items()},
            categories={name: values[ids] for name, values in self.categories.items()},
            language=self.language,
            numbers={name: values[ids] for name, values in self.numbers.items()},
            everything=self,
        )


def _no_known_number(tables: Tables, table: str, column: str) -> DataError:
    return DataError(
        f"{tables.folder}: {table}.{column}: of what the training split shows no value is known; "
        "leave it out of the data YAML"
    )


def _numbers(tables: Tables, table: str, column: str) -> Tensor:
    described = tables.column(table, column)
    if (described["kind"], described["dtype"]) != ("scalar", "float32"):
        raise DataError(f"{tables.folder}: {table}.{column} is not a number field")
    return tables.scalar(table, column)
