"""Small random items, language models, impressions and what bricks read of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

from legos.blocks.packed import encode_history
from legos.data.batch import Batch, BatchUsers, TrainingRows
from legos.data.interactions import Interactions
from legos.data.items import ItemBatch, ItemField, ItemStore, LanguageInput
from legos.data.ragged import Ragged, from_lengths
from legos.data.sampling import NegativeSampler
from legos.item.cnn import CNNConfig
from legos.lm.load import LanguageModel
from legos.lm.settings import LanguageModelSource
from legos.lm.states import FINAL, POOLED, TOKENS
from legos.predictor.dot import DotConfig
from legos.recommender import Recommender, TokenTable, build_recommender
from legos.registry import BrickConfig, UserOutput
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
    made = _random_store(tuple(fields), num_items, seed, texts)
    # a deep copy takes as long as many a test
    copies = {
        id(column): Ragged(column.values.clone(), column.offsets.clone())
        for column in (*made.texts.values(), *made.language.values())
    }
    return ItemStore(
        fields=made.fields,
        texts={name: copies[id(column)] for name, column in made.texts.items()},
        categories={name: column.clone() for name, column in made.categories.items()},
        num_items=num_items,
        language={name: copies[id(column)] for name, column in made.language.items()},
    )


@cache
def _random_store(fields: tuple[str, ...], num_items: int, seed: int, texts: bool) -> ItemStore:
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
    return ItemStore(
        fields=described,
        texts=words,
        categories=categories,
        num_items=num_items,
        language=random_language(words, num_items, seed),
    )


def random_language(
    words: Mapping[str, Ragged], num_items: int, seed: int = 0
) -> dict[str, LanguageInput]:
    """What language models read: the words of the first text, and states of all layers."""
    source = random_language_model()
    width = (source.num_layers + 1) * source.width
    generator = torch.Generator().manual_seed(seed)
    pooled = torch.randn(num_items, width, generator=generator)
    tokens = next(iter(words.values()), ragged([[]] * num_items))
    return {
        TOKENS: tokens,
        POOLED: Ragged(pooled, torch.arange(num_items + 1)),
        FINAL: Ragged(pooled[:, -source.width :], torch.arange(num_items + 1)),
    }


@cache
def random_language_model() -> LanguageModel:
    """A BERT of two layers with random weights, without dropout."""
    shape = {
        "model_type": "bert",
        "vocab_size": NUM_WORDS,
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "max_position_embeddings": 32,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    return LanguageModel(LanguageModelSource(random=True, shape=shape, tokenizer="minilm"))


def random_profiles(*, num_users: int = NUM_USERS + 1, seed: int = 0) -> ItemStore:
    """User fields in 0 to 6 words and a region; every third user has said nothing.

    The interests are written in the words of the items.
    """
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 7, (num_users,), generator=generator)
    lengths[::3] = 0
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    values = torch.randint(NUM_WORDS, (int(lengths.sum()),), generator=generator)
    return ItemStore(
        fields={
            "interests": ItemField("interests", True, "words", NUM_WORDS, 6),
            "region": ItemField("region", False, "region", NUM_CATEGORIES, 1),
        },
        texts={"interests": Ragged(values, offsets)},
        categories={
            "region": torch.randint(NUM_CATEGORIES, (num_users,), generator=generator)
            * (lengths > 0)
        },
        num_items=num_users,
    )


def random_vectors(num_items: int = NUM_ITEMS) -> Tensor:
    """Given item vectors ``(items, E)``; every seventh item has none."""
    generator = torch.Generator().manual_seed(3)
    vectors = torch.randn(num_items, PRETRAINED_SIZE, generator=generator)
    vectors[::7] = torch.nan
    return vectors


def random_codes(num_items: int = NUM_ITEMS) -> Tensor:
    """Three semantic codes an item ``(items, 3)``; every sixth item has none."""
    codes = torch.randint(4, (num_items, 3), generator=torch.Generator().manual_seed(4))
    codes[::6] = -1
    return codes


def random_click_graph(num_items: int = NUM_ITEMS) -> Ragged:
    """Up to four items that every item was read after; none before item 7."""
    generator = torch.Generator().manual_seed(6)
    lengths = torch.randint(5, (num_items,), generator=generator)
    lengths[7:8] = 0
    before = torch.randint(num_items, (int(lengths.sum()),), generator=generator)
    return from_lengths(before, lengths)


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
        profiles=random_profiles(),
        language_model=random_language_model(),
        item_vectors=random_vectors(len(store)),
        user_vectors=random_vectors(NUM_USERS),
        item_codes=random_codes(len(store)),
        click_graph=random_click_graph(len(store)),
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
        history_clicks=ragged(histories).lengths,
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


@dataclass(frozen=True)
class UserInput:
    """What a user encoder reads: every special case of a history and of a reader.

    Attributes:
        history: ``(B, H, D)``.
        mask: ``(B, H)``.
        users: of the same B rows.
    """

    history: Tensor
    mask: Tensor
    users: BatchUsers

    def __call__(self, encoder: nn.Module) -> Tensor:
        """What the encoder makes of it."""
        return encode_history(encoder, self.history, self.mask, self.users)

    def row(self, row: int) -> UserInput:
        """One of the rows."""
        one, users = slice(row, row + 1), self.users
        assert users.candidates is not None
        assert users.candidate_items is not None
        users = replace(
            users,
            ids=users.ids[one],
            history=users.history[one],
            candidates=users.candidates[one],
            candidate_items=users.candidate_items[one],
        )
        return UserInput(self.history[one], self.mask[one], users)

    def reading(self, history: Tensor, mask: Tensor, positions: Tensor) -> UserInput:
        """The same users with other histories."""
        return UserInput(history, mask, replace(self.users, history=positions))


def user_input(
    lengths: Sequence[int] = (0, 1, 3, 7, 2, 5),
    *,
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
    num_candidates: int = 5,
    width: int = 7,
) -> UserInput:
    """Users 1, 2, ..., the last of them unheard of; some unknown, some without a profile."""
    generator = torch.Generator().manual_seed(0)
    count = len(lengths)
    history = torch.randn(count, width, HIDDEN_SIZE, generator=generator, dtype=torch.float64)
    candidates = torch.randn(
        count, num_candidates, HIDDEN_SIZE, generator=generator, dtype=torch.float64
    )
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    positions = torch.randint(2, NUM_ITEMS, (count, width), generator=generator)
    shown = torch.randint(2, NUM_ITEMS, (count, num_candidates), generator=generator)
    ids = torch.arange(1, count + 1)
    ids[-1] = NUM_USERS
    users = BatchUsers(
        ids=ids.to(device),
        items=random_store().to(device).whole(),
        history=positions.where(mask, 0).to(device),
        candidates=candidates.to(device, dtype),
        candidate_items=shown.to(device),
        profiles=random_profiles().to(device),
    )
    return UserInput(history.to(device, dtype), mask.to(device), users)


def output_shape(output: UserOutput, *, batch: int, candidates: int, history: int) -> list[Any]:
    """The shape a user encoder's output has; None where the encoder chooses the number."""
    return {
        "vector": [batch, HIDDEN_SIZE],
        "vector_per_candidate": [batch, candidates, HIDDEN_SIZE],
        "interests": [batch, None, HIDDEN_SIZE],
        "interests_per_candidate": [batch, candidates, None, HIDDEN_SIZE],
        "sequence": [batch, history, HIDDEN_SIZE],
    }[output]
