"""Small random items, impressions and every registered brick in every form its settings offer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from hypothesis import settings
from torch import Tensor

from legos.data.batch import Batch, TrainingRows
from legos.data.interactions import Interactions
from legos.data.items import ItemBatch, ItemField, ItemStore
from legos.data.ragged import Ragged
from legos.data.sampling import NegativeSampler
from legos.item.cnn import CNNConfig
from legos.predictor.dot import DotConfig
from legos.recommender import Recommender, TokenTable, build_recommender
from legos.registry import BrickConfig, Registry, item_encoders
from legos.user.additive_attention import AdditiveAttentionConfig

HIDDEN_SIZE = 16
PRETRAINED_SIZE = 12  # differs from HIDDEN_SIZE, so that the frozen table is projected
NUM_ITEMS = 44
NUM_USERS = 9
NUM_WORDS = 50
NUM_CATEGORIES = 5
FIELDS = ("title", "abstract", "category", "subcategory")

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)
"""Hypothesis settings: the same few examples every time, nothing written to disk."""

needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device here: CPU and GPU cannot be compared"
)

Impression = tuple[int, int, Sequence[int], Sequence[int]]
"""User, row of the histories, candidates, labels."""


def ragged(rows: Sequence[Sequence[int]]) -> Ragged:
    """Python lists as a list column."""
    lengths = torch.tensor([0, *(len(row) for row in rows)])
    values = torch.tensor([value for row in rows for value in row], dtype=torch.int64)
    return Ragged(values, lengths.cumsum(0))


def lists(column: Ragged) -> list[list[int]]:
    """A list column as python lists."""
    return [part.tolist() for part in column.values.split(column.lengths.tolist())]


def random_store(
    *, fields: Sequence[str] = FIELDS, num_items: int = NUM_ITEMS, seed: int = 0, texts: bool = True
) -> ItemStore:
    """Items with 0 to 20 words a text; item 0 has no word at all, item 1 no title.

    Title and abstract share the vocabulary ``words``. ``texts=False`` empties every text.
    """
    generator = torch.Generator().manual_seed(seed)
    described: dict[str, ItemField] = {}
    words: dict[str, Ragged] = {}
    categories: dict[str, Tensor] = {}
    for name in fields:
        if name in ("category", "subcategory"):
            described[name] = ItemField(name, False, name, NUM_CATEGORIES, 1)
            categories[name] = torch.randint(NUM_CATEGORIES, (num_items,), generator=generator)
            continue
        described[name] = ItemField(name, True, "words", NUM_WORDS, 20)
        lengths = torch.randint(0, 21, (num_items,), generator=generator) * int(texts)
        lengths[: 2 if name == "title" else 1] = 0
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        values = torch.randint(NUM_WORDS, (int(lengths.sum()),), generator=generator)
        words[name] = Ragged(values, offsets)
    return ItemStore(fields=described, texts=words, categories=categories, num_items=num_items)


def random_recommender(
    store: ItemStore,
    *,
    item: BrickConfig | None = None,
    user: BrickConfig | None = None,
    predictor: BrickConfig | None = None,
    seed: int = 1,
    frozen_words: bool = True,
    hidden_size: int = HIDDEN_SIZE,
) -> Recommender:
    """A recommender of the named bricks; ``words`` is a frozen projected table unless told."""
    choice = SimpleNamespace(
        hidden_size=hidden_size,
        item=item or CNNConfig(attention_size=8),
        user=user or AdditiveAttentionConfig(attention_size=8),
        predictor=predictor or DotConfig(),
    )
    vectors = torch.randn(NUM_WORDS, PRETRAINED_SIZE, generator=torch.Generator().manual_seed(5))
    return build_recommender(
        choice,
        store,
        known=SimpleNamespace(
            items=torch.arange(len(store)) % 5 > 0, users=torch.arange(NUM_USERS) % 4 > 0
        ),
        seed=seed,
        tables={"words": TokenTable(vectors, frozen_words, "test")},
    )


def interactions(
    histories: Sequence[Sequence[int]], impressions: Sequence[Impression], *, split: str = "train"
) -> Interactions:
    """A split from python lists."""
    users, rows, candidates, labels = zip(*impressions, strict=True) if impressions else [()] * 4
    return Interactions(
        split=split,
        users=torch.tensor(users, dtype=torch.int64),
        history_rows=torch.tensor(rows, dtype=torch.int64),
        histories=ragged(histories),
        history_users=torch.arange(len(histories)),
        candidates=ragged(candidates),
        labels=ragged(labels).values.to(torch.int8),
        impression_vocabulary=f"impression_id@{split}",
        impression_ids=torch.arange(len(impressions)),
    )


def random_interactions(
    *,
    num_items: int = NUM_ITEMS,
    num_users: int = NUM_USERS,
    num_impressions: int = 30,
    seed: int = 0,
) -> Interactions:
    """Two history states a user (user 0 has read nothing), each impression with a click."""
    generator = torch.Generator().manual_seed(seed)

    def draw(limit: int) -> int:
        return int(torch.randint(limit, (), generator=generator))

    def some(count: int) -> list[int]:
        return torch.randperm(num_items, generator=generator)[:count].tolist()

    histories = [some(draw(8)) if state > 1 else [] for state in range(2 * num_users)]
    impressions: list[Impression] = []
    for _ in range(num_impressions):
        user, shown = draw(num_users), some(3 + draw(6))
        click = draw(len(shown))
        labels = [int(place == click) for place in range(len(shown))]
        impressions.append((user, 2 * user + draw(2), shown, labels))
    return interactions(histories, impressions)


def random_batch(store: ItemStore, *, seed: int = 0, size: int = 16) -> tuple[Batch, ItemBatch]:
    """A training batch with three negatives a click, and the content of its distinct items."""
    data = random_interactions(num_items=len(store), seed=seed)
    sampler = NegativeSampler(data, num_items=len(store), strategy="impression", count=3, seed=seed)
    batch = TrainingRows(data, sampler).batch(torch.arange(size), pass_number=0)
    return batch, store.batch(batch.items)


def forms(registry: Registry) -> list[Any]:
    """Every brick with every combination of its choices, as pytest parameters."""
    return [_parameter(config) for config in all_configs(registry)]


def default_forms(registry: Registry) -> list[Any]:
    """Every brick once, with its defaults; a brick that contains a brick gets the first one."""
    return [
        _parameter(
            registry.config(name)() if _plain(registry, name) else next(_configs(registry, name))
        )
        for name in registry.names()
    ]


def all_configs(registry: Registry) -> list[BrickConfig]:
    """The settings of every brick: all literals, both booleans, every brick it may contain."""
    return [config for name in registry.names() for config in _configs(registry, name)]


def _configs(registry: Registry, name: str) -> Iterator[BrickConfig]:
    choices = {
        key: _choices(field.annotation)
        for key, field in registry.config(name).model_fields.items()
        if key != "name"
    }
    choices = {key: options for key, options in choices.items() if options}
    for options in itertools.product(*choices.values()):
        yield registry.validate({"name": name, **dict(zip(choices, options, strict=True))})


def _choices(annotation: Any) -> list[Any]:
    """What a setting may be, where that is a closed choice."""
    if annotation is bool:
        return [False, True]
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, BrickConfig):
        names = [name for name in item_encoders.names() if _plain(item_encoders, name)]
        return [item_encoders.config(name)() for name in names]
    return [choice for part in get_args(annotation) for choice in _choices(part)]


def _plain(registry: Registry, name: str) -> bool:
    """Whether a brick can do without any setting."""
    return not any(field.is_required() for field in registry.config(name).model_fields.values())


def _parameter(config: BrickConfig) -> Any:
    chosen = {
        key: value.name if isinstance(value, BrickConfig) else value
        for key, value in config
        if isinstance(value, BrickConfig | bool | str) and key != "name"
    }
    settings_text = ",".join(f"{key}={value}" for key, value in chosen.items())
    return pytest.param(config, id=f"{config.name}[{settings_text}]" if chosen else config.name)
