"""Random data of the shape of a real set, as the tensors that training reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from legos.data.interactions import Interactions
from legos.data.items import ItemField, ItemStore
from legos.data.ragged import Ragged, offsets_of

VOCABULARY = 30_522  # bert-base-uncased
TITLE_LENGTH = 30


@dataclass(frozen=True)
class Shape:
    """How large a set is.

    Attributes:
        items: size of the catalogue.
        impressions: rows, one click each.
        history: the longest history; lengths are uniform from 1.
        negatives: shown and not clicked, per impression.
    """

    items: int
    impressions: int
    history: int
    negatives: int = 4


GOODREADS = Shape(items=16_833, impressions=95_417, history=9)
MIND = Shape(items=65_238, impressions=150_000, history=50)


def ragged(values: np.ndarray, lengths: np.ndarray) -> Ragged:
    """A list column from numpy."""
    offsets = np.concatenate([[0], lengths.cumsum()])
    return Ragged(torch.from_numpy(values.astype(np.int64)), torch.from_numpy(offsets))


def make_items(shape: Shape, seed: int = 0) -> ItemStore:
    """Titles of 6.2 tokens on average, at most 30, with Zipf-distributed tokens."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(np.rint(rng.lognormal(1.68, 0.55, shape.items)), 1, TITLE_LENGTH)
    lengths = lengths.astype(np.int64)
    tokens = np.minimum(rng.zipf(1.25, lengths.sum()), VOCABULARY - 1)
    field = ItemField("title", True, "bert", VOCABULARY, TITLE_LENGTH)
    return ItemStore(
        fields={"title": field},
        texts={"title": ragged(tokens, lengths)},
        categories={},
        num_items=shape.items,
    )


def make_interactions(shape: Shape, seed: int = 1) -> Interactions:
    """One click and ``negatives`` others an impression; popularity as a mild power law."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, shape.history + 1, shape.impressions)
    shown = 1 + shape.negatives

    def draw(count: int) -> np.ndarray:
        return (shape.items * rng.random(count) ** 1.7).astype(np.int64)

    row = torch.arange(shape.impressions)
    labels = torch.zeros(shape.impressions, shown, dtype=torch.int8)
    labels[:, 0] = 1
    return Interactions(
        split="train",
        users=row,
        history_rows=row,
        histories=ragged(draw(lengths.sum()), lengths),
        history_users=row,
        history_clicks=torch.from_numpy(lengths),
        candidates=ragged(
            draw(shape.impressions * shown), np.full(shape.impressions, shown, np.int64)
        ),
        labels=labels.view(-1),
        impression_vocabulary="impression_id@train",
        impression_ids=row,
    )


def growing(clicks: Ragged, longest: int) -> Interactions:
    """An impression a click of users' sequences, whose history is what the user clicked before.

    A user's first click, which nothing came before, is in histories alone; these keep the newest
    ``longest`` items.
    """
    lengths = (clicks.lengths - 1).clamp(min=0)  # impressions of each user
    users = torch.arange(len(clicks)).repeat_interleave(lengths)
    read = torch.arange(len(users)) - offsets_of(lengths)[users] + 1  # (R,) clicks before
    histories = clicks.select(users).head(read).tail(longest)
    rows = torch.arange(len(users))
    return Interactions(
        split="train",
        users=users,
        history_rows=rows,
        histories=histories,
        history_users=users,
        history_clicks=read,
        candidates=Ragged(clicks.values[clicks.offsets[users] + read], torch.arange(len(rows) + 1)),
        labels=torch.ones(len(rows), dtype=torch.int8),
        impression_vocabulary="impression_id@train",
        impression_ids=rows,
    )
