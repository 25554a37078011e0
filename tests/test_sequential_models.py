"""What every shipped model that reads a sequence must do as a whole: a new row is in it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from legos.config.load import load_run_config
from legos.config.model_schema import ModelConfig
from legos.config.models import shipped_models
from legos.data.batch import Rows, SequenceRows
from legos.data.catalogue_rows import CatalogueRows
from legos.data.cloze import ClozeRows
from legos.data.interactions import Interactions
from legos.data.items import ItemStore
from legos.data.ragged import Ragged
from legos.recommender import Recommender
from legos.systems.bricks.losses import batch_loss
from legos.systems.bricks.score import score_split
from tests.bricks import random_recommender, random_store
from tests.data.test_windows import ITEMS, growing

READERS = {"sasrec", "hstu", "gru", "bert4rec", "transformer"}
NAMES = [name for name, model in shipped_models().items() if model.bricks.get("user") in READERS]
MODELS = pytest.mark.parametrize("name", NAMES)
LENGTHS = [7, 1, 4, 9, 0, 2]
EXACT = {"rtol": 0.0, "atol": 1e-9}


@cache
def config_of(name: str) -> ModelConfig:
    words = ["--data", "amazon-beauty", "--exp", "sequential", "--model", name]
    return load_run_config(words, notice=lambda text: None).bricks


def built(name: str, store: ItemStore) -> Recommender:
    config = config_of(name)
    model = random_recommender(
        store, item=config.item, user=config.user, predictor=config.predictor
    )
    return model.double().eval()


def rows_of(name: str, data: Interactions) -> Rows:
    """As ``exp.train.sequences`` has them, or blanks; a row a click where neither is possible."""
    user = config_of(name).user
    everything = torch.ones(ITEMS, dtype=torch.bool)
    rows = CatalogueRows(data, offered=everything, row="click", history="given")
    if user.cloze is not None:
        return ClozeRows(rows, data, user.cloze, seed=5)
    return SequenceRows(rows, data) if user.reads_prefixes else rows


def losses(model: Recommender, store: ItemStore, rows: Rows) -> tuple[Tensor, Tensor]:
    """Numbers of the rows of a pass, ascending, and the loss of each; gradients are left behind."""
    batch = rows.batch(torch.arange(rows.units), pass_number=2)
    total, each = batch_loss("full_softmax", model(batch, store.whole()), batch, len(batch))
    total.backward()
    order = batch.rows.argsort()
    return batch.rows[order], each[order]


def renamed(store: ItemStore, back: Tensor) -> ItemStore:
    """The same items under other numbers: item i is what ``back[i]`` was."""
    return ItemStore(
        fields=store.fields,
        texts={name: column.select(back) for name, column in store.texts.items()},
        categories={name: column[back] for name, column in store.categories.items()},
        num_items=len(store),
        language={name: read.select(back) for name, read in store.language.items()},
    )


@MODELS
def test_renaming_items_changes_nothing_but_names(name: str) -> None:
    store, data = random_store(num_items=ITEMS), growing(LENGTHS, most=20)
    back = torch.randperm(ITEMS, generator=torch.Generator().manual_seed(4))
    new = back.argsort()
    other_store = renamed(store, back)
    other_data = replace(
        data,
        histories=Ragged(new[data.histories.values], data.histories.offsets),
        candidates=Ragged(new[data.candidates.values], data.candidates.offsets),
    )
    model, other = built(name, store), built(name, other_store)
    other.load_state_dict(model.state_dict())
    for tensor in (*other.item_encoder.parameters(), *other.item_encoder.buffers()):
        tensor.data = an_item_each(tensor.data, back)
    _, before = losses(model, store, rows_of(name, data))
    _, after = losses(other, other_store, rows_of(name, other_data))
    torch.testing.assert_close(after, before, **EXACT)
    for (key, one), two in zip(model.named_parameters(), other.parameters(), strict=True):
        expected = gradient_of(one)
        if key.startswith("item_encoder"):
            expected = an_item_each(expected, back)
        torch.testing.assert_close(gradient_of(two), expected)


def an_item_each(values: Tensor, rows: Tensor) -> Tensor:
    """Rows of what has one for every item, else as it is."""
    return values[rows] if values.ndim and len(values) == ITEMS else values


def gradient_of(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


@MODELS
def test_users_by_other_numbers_learn_alike(name: str) -> None:
    store, data = random_store(num_items=ITEMS), growing(LENGTHS, most=20)
    other = replace(data, users=(data.users * 5 + 2) % len(LENGTHS))
    model = built(name, store)
    number, before = losses(model, store, rows_of(name, data))
    same, after = losses(model, store, rows_of(name, other))
    assert torch.equal(number, same)
    torch.testing.assert_close(after, before, **EXACT)


@MODELS
def test_impressions_in_another_order_have_the_same_scores(name: str) -> None:
    store, data = random_store(num_items=ITEMS), growing(LENGTHS, most=20)
    model = built(name, store).float()
    before = Ragged(score_split(model, store, data).scores, data.candidates.offsets)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(6))
    shuffled = data.select(order)
    after = score_split(model, store, shuffled).scores
    torch.testing.assert_close(after, before.select(order).values, rtol=0, atol=1e-6)
