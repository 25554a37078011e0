"""What CLLM4Rec reads of tables: who has which items in training, and the texts of its corpora.

Nothing of a held-out pair is read: items are those of training impressions and of the histories
before them, reviews those of training pairs (``legos.data.reviews`` refuses others).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from legos.config.data_schema import DataConfig
from legos.data.interactions import Interactions
from legos.data.ragged import Ragged, from_lengths
from legos.data.reviews import TABLE as REVIEWS
from legos.data.reviews import Reviews
from legos.data.tables import Tables
from legos.errors import ConfigError, nearest
from legos.systems.cllm4rec.templates import CONTENT_KINDS, content_kind

_OF_PAIRS = ("review", "explanation")
_OF_USERS = ("biography",)
_OF_FIELDS = ("title", "brand", "description", "categories")
_ALL_FIELDS = "content"
_UNKNOWN = "<unknown>"


@dataclass(frozen=True)
class Corpus:
    """Texts of one kind or of several, in order.

    Attributes:
        kinds: ``(R,)`` int64 rows of ``templates.CONTENT_KINDS``.
        users: ``(R,)`` int64; -1 where a kind names none.
        items: ``(R,)`` int64; -1 where a kind names none.
        texts: R texts, none of them empty.
    """

    kinds: Tensor
    users: Tensor
    items: Tensor
    texts: list[str]


def train_items(tables: Tables, train: Interactions) -> Ragged:
    """The distinct items, ascending, that every user has in training: I rows of int64.

    They are the clicks of the training split and what stands in its histories, uncut.
    """
    clicked = train.labels == 1
    states = train.history_rows.unique()
    read = tables.lists("histories", "items")
    histories = Ragged(read.values.long(), read.offsets).select(states.cpu())
    owners = train.history_users[states].cpu()[histories.rows]
    users = torch.cat([train.users[train.candidates.rows[clicked]].cpu(), owners])
    items = torch.cat([train.candidates.values[clicked].cpu(), histories.values])
    return distinct_rows(users, items, rows=tables.num_users, width=tables.num_items)


def distinct_rows(rows_of: Tensor, items: Tensor, *, rows: int, width: int) -> Ragged:
    """Pairs ``(P,)`` of a row and an item, each once -> rows of ascending items."""
    keys = torch.unique(rows_of * width + items)
    return from_lengths(keys % width, torch.bincount(keys // width, minlength=rows))


def known_kinds(data: DataConfig, tables: Tables) -> list[str]:
    """The kinds of text that these data have, in the order of ``CONTENT_KINDS``."""
    reviews = tables.manifest.get("table_fields", {}).get(REVIEWS, {})
    users = tables.manifest.get("table_fields", {}).get("users", {})
    fields = {field.name for field in data.fields}
    found = {_ALL_FIELDS} if fields else set()
    found |= {kind for kind in _OF_PAIRS if kind in reviews}
    found |= {kind for kind in _OF_USERS if kind in users}
    found |= {kind for kind in _OF_FIELDS if kind in fields}
    return [kind for kind in CONTENT_KINDS if kind in found]


def chosen_kinds(asked: Sequence[str], data: DataConfig, tables: Tables) -> list[str]:
    """The kinds that ``model.content.kinds`` asks for; none asked for: all but `content`.

    Raises:
        ConfigError: the data have no such texts, or no texts at all.
    """
    known = known_kinds(data, tables)
    for kind in asked:
        content_kind(kind)
        if kind not in known:
            raise ConfigError(
                f"model.content.kinds: {data.name} has no texts of kind {kind!r}; "
                f"{nearest(kind, known)}"
            )
    kinds = [kind for kind in CONTENT_KINDS if kind in asked]
    kinds = kinds or [kind for kind in known if kind != _ALL_FIELDS]
    if not kinds:
        joined = "content.kinds to [content] for all its fields in one, or " if data.fields else ""
        raise ConfigError(
            f"model.content: {data.name} has neither reviews nor a field called "
            f"{', '.join(_OF_FIELDS)}; set {joined}content.enabled to false"
        )
    return kinds


def read_corpus(kinds: Sequence[str], data: DataConfig, tables: Tables) -> Corpus:
    """The texts of some kinds; what is empty is left out."""
    numbers: list[Tensor] = []
    columns: list[tuple[Tensor, Tensor]] = []
    texts: list[str] = []
    for kind in kinds:
        for users, items, found in _texts_of(kind, data, tables):
            kept = [row for row, text in enumerate(found) if text.strip()]
            index = torch.tensor(kept, dtype=torch.int64)
            numbers.append(torch.full((len(kept),), content_kind(kind)))
            columns.append((users[index], items[index]))
            texts += [found[row] for row in kept]
    return Corpus(
        torch.cat(numbers),
        torch.cat([users for users, _ in columns]),
        torch.cat([items for _, items in columns]),
        texts,
    )


def _texts_of(
    kind: str, data: DataConfig, tables: Tables
) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
    """Users, items and texts of one kind."""
    if kind in _OF_PAIRS:
        reviews = Reviews.from_tables(tables)
        yield reviews.users, reviews.items, reviews.texts[kind]
    elif kind in _OF_USERS:
        users = torch.arange(tables.num_users)
        yield users, torch.full_like(users, -1), tables.texts(kind, table="users")
    else:
        names = [field.column.split("@")[0] for field in data.fields]
        if kind != _ALL_FIELDS:
            names = [names[[field.name for field in data.fields].index(kind)]]
        columns = [_item_texts(tables, name) for name in names]
        items = tables.offered.nonzero()[:, 0]  # not what a model wrote
        joined = [". ".join(filter(None, parts)) for parts in zip(*columns, strict=True)]
        yield torch.full_like(items, -1), items, [joined[item] for item in items.tolist()]


def _item_texts(tables: Tables, column: str) -> list[str]:
    if tables.manifest["fields"].get(column, {}).get("kind") == "text":
        return tables.texts(column)
    names = tables.vocabulary(tables.column("items", column)["vocabulary"])
    values = tables.scalar("items", column).tolist()
    return ["" if names[value] == _UNKNOWN else names[value] for value in values]
