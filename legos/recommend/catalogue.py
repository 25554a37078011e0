"""The items at one moment, by their raw ids, and the model that recommends them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from legos.data.new_items import NewItems
from legos.data.ragged import from_lengths
from legos.data.tables import Tables
from legos.data.tokenizers import UNKNOWN
from legos.evaluation.rank import NO_ITEM, Best, top_items
from legos.files import sha256_of_text
from legos.recommend.names import unknown_name
from legos.systems.protocol import Recommending
from legos.workplace.workplace import Workplace


@dataclass(frozen=True)
class Opened:
    """What a run has in memory once something was asked."""

    workplace: Workplace
    model: Recommending


@dataclass(frozen=True)
class Catalogue:
    """All items that a model scores; adding items makes another one.

    Attributes:
        ids: raw ids, by number.
        fields: by field what each item has there: text, or a number of a number field.
        model: that recommends them.
        title: name of the field that says what an item is; None where no field has text.
    """

    ids: np.ndarray
    fields: Mapping[str, np.ndarray]
    model: Recommending
    title: str | None

    @classmethod
    def of(cls, tables: Tables, model: Recommending) -> Catalogue:
        """The items of tables."""
        return cls(
            ids=np.array(tables.vocabulary("item_id"), dtype=object),
            fields={name: _field(tables, name) for name in tables.manifest["fields"]},
            model=model,
            title=tables.title_field,
        )

    def with_items(self, items: NewItems) -> Catalogue:
        """These and new ones behind them."""
        new = {**items.texts, **items.numbers}
        return replace(
            self,
            ids=np.concatenate([self.ids, np.array(items.ids, dtype=object)]),
            fields={
                name: np.concatenate([values, np.asarray(new[name], dtype=values.dtype)])
                for name, values in self.fields.items()
            },
            model=self.model.extended(items),
        )

    def content(self, first: int) -> str:
        """A hash of all that items from a number on say."""
        columns = {"item_id": self.ids, **self.fields}
        said = {name: [str(value) for value in values[first:]] for name, values in columns.items()}
        return sha256_of_text(json.dumps(said))

    @cached_property
    def rows(self) -> dict[str, int]:
        """Number by raw id, of the items that may be recommended or read."""
        return {item: row for row, item in enumerate(self.ids.tolist())}

    def numbers(self, items: Iterable[str | int]) -> Tensor:
        """Numbers of items by raw id: ``(n,)`` int64.

        Raises:
            DataError: there is no such item; the message names the nearest.
        """
        found = []
        for item in items:
            number = self.rows.get(str(item))
            if number is None:
                raise unknown_name("item", str(item), self.rows)
            found.append(number)
        return torch.tensor(found, dtype=torch.int64)

    def titles(self, numbers: np.ndarray) -> np.ndarray:
        """What items are called, ``(n,)`` str; "" where nothing says."""
        if self.title is None:
            return np.full(len(numbers), "", dtype=object)
        titles: np.ndarray = self.fields[self.title][numbers]
        return titles

    def frame(self, items: Tensor, values: Tensor, name: str = "score") -> pd.DataFrame:
        """A list: numbers ``(n,)`` and values -> item_id, the value under ``name``, title."""
        listed = items != NO_ITEM
        numbers = items[listed].numpy()
        return pd.DataFrame(
            {
                "item_id": self.ids[numbers],
                name: values[listed].numpy(),
                "title": self.titles(numbers),
            }
        )

    def table(self) -> pd.DataFrame:
        """Every item that may be recommended: item_id and its fields."""
        columns = {"item_id": self.ids, **self.fields}
        offered = self.model.offered.numpy()
        return pd.DataFrame({name: values[offered] for name, values in columns.items()})

    @cached_property
    def _directions(self) -> Tensor:
        """Vectors of all items, of length 1; a zero vector stays."""
        return F.normalize(self.model.item_vectors())

    def similar(self, item: int, count: int) -> Best:
        """The items most similar to one, which is left out.

        By the cosine of their vectors, or as the model says that has another similarity.
        """
        own: Callable[[int], Tensor] | None = getattr(self.model, "similar_to", None)
        scores = self._directions @ self._directions[item] if own is None else own(item)
        hidden = (~self.model.offered).nonzero()[:, 0]
        left_out = torch.cat([hidden, torch.tensor([item])])
        excluded = from_lengths(left_out, torch.tensor([len(left_out)]))
        return top_items(scores[None], excluded, count)


def _field(tables: Tables, name: str) -> np.ndarray:
    kind = tables.manifest["fields"][name]["kind"]
    if kind == "text":
        return np.array(tables.texts(name), dtype=object)
    values = tables.scalar("items", name).numpy()
    if kind == "number":
        return values
    entries = np.array(tables.vocabulary(tables.column("items", name)["vocabulary"]), dtype=object)
    entries[entries == UNKNOWN] = ""
    said: np.ndarray = entries[values]
    return said
