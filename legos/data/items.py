"""Item content: every field of every item in memory, and the packed content of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from legos.data.ragged import Ragged
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
        is_text: a list of tokens; otherwise one category id an item.
        vocabulary: name of its vocabulary; fields of one vocabulary share one embedding.
        size: number of entries of the vocabulary.
        length: the most tokens an item has (1 for a category).
    """

    name: str
    is_text: bool
    vocabulary: str
    size: int
    length: int


@dataclass(frozen=True)
class ItemBatch:
    """The content of N items, without padding.

    Attributes:
        ids: ``(N,)`` int64 item ids.
        texts: per text field the tokens of each item; values ``(P,)`` int64.
        categories: per category field ``(N,)`` int64.
        language: what language models read of *all* items, by name; select ``ids`` from it.
    """

    ids: Tensor
    texts: Mapping[str, Ragged]
    categories: Mapping[str, Tensor]
    language: Mapping[str, LanguageInput] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.ids.numel()

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
        )


class ItemStore:
    """Every field of every item, as tensors on one device.

    Args:
        fields: what each field is, by name.
        texts: per text field the tokens of all items (already cut to length).
        categories: per category field ``(items,)`` int64.
        num_items: number of items.
        language: what language models read of them, by name.
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
        device: torch.device | str = "cpu",
    ) -> None:
        self.fields = dict(fields)
        self.texts = dict(texts)
        self.categories = dict(categories)
        self.num_items = num_items
        self.language = dict(language or {})
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
        cls, tables: Tables, choices: Iterable[FieldChoice], *, table: str = "items"
    ) -> ItemStore:
        """Read the chosen columns; texts keep their first ``length`` tokens.

        ``table="users"`` reads users' fields instead: the same thing with users for items.

        Raises:
            DataError: a column is missing, damaged, or holds ids beyond its vocabulary.
        """
        fields: dict[str, ItemField] = {}
        texts: dict[str, Ragged] = {}
        categories: dict[str, Tensor] = {}
        for choice in choices:
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
        return cls(fields=fields, texts=texts, categories=categories, num_items=count)

    def to(self, device: torch.device | str) -> ItemStore:
        """The same store on another device."""
        return ItemStore(
            fields=self.fields,
            texts={name: tokens.to(device) for name, tokens in self.texts.items()},
            categories={name: ids.to(device) for name, ids in self.categories.items()},
            num_items=self.num_items,
            language={name: read.to(device) for name, read in self.language.items()},
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
            device=self.device,
        )

    def whole(self) -> ItemBatch:
        """The content of all items; nothing is copied."""
        ids = torch.arange(self.num_items, device=self.device)
        return ItemBatch(
            ids=ids, texts=self.texts, categories=self.categories, language=self.language
        )

    def batch(self, ids: Tensor) -> ItemBatch:
        """The content of the named items: ``(N,)`` int64."""
        return ItemBatch(
            ids=ids,
            texts={name: tokens.select(ids) for name, tokens in self.texts.items()},
            categories={name: values[ids] for name, values in self.categories.items()},
            language=self.language,
        )
