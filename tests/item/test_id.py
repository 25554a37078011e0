"""ID vectors: known items their own, everything new one shared vector; alone and with content."""

from __future__ import annotations

import pytest
import torch

from legos.data.items import ItemBatch
from legos.item.id import ID, IDConfig
from legos.item.id_and_content import IDAndContentConfig
from legos.item.pooling import PoolingConfig
from tests.bricks import random_recommender, random_store

KNOWN = torch.tensor([True, False, True, True])


def batch(*ids: int) -> ItemBatch:
    return ItemBatch(torch.tensor(ids), {}, {})


def encoder(id_dropout: float = 0.0) -> ID:
    module = ID(IDConfig(id_dropout=id_dropout), known_items=KNOWN, hidden_size=3)
    torch.nn.init.constant_(module.unknown, 7.0)
    return module


@pytest.mark.parametrize("training", [True, False])
def test_what_training_never_saw_shares_one_vector(training: bool) -> None:
    module = encoder().train(training)
    vectors = module(batch(2, 1, 0, 4, 1000))  # 4 and 1000 came after the catalogue
    assert torch.equal(vectors[[0, 2]], module.vectors[[2, 0]])
    assert torch.equal(vectors[[1, 3, 4]], torch.full((3, 3), 7.0))


def test_id_dropout_shows_training_items_as_unknown_at_its_rate() -> None:
    module = encoder(id_dropout=0.3).train()
    torch.manual_seed(0)
    unknown = (module(batch(*[2] * 4000)) == 7.0).all(1)
    assert float(unknown.float().mean()) == pytest.approx(0.3, abs=0.03)
    assert not (module.eval()(batch(*[2] * 4000)) == 7.0).any()


def test_the_unknown_vector_learns_from_id_dropout() -> None:
    module = encoder(id_dropout=0.5).train()
    torch.manual_seed(0)
    module(batch(*[0, 2, 3] * 10)).sum().backward()
    assert module.unknown.grad.any()
    assert module.vectors.grad[[0, 2, 3]].any(1).all()
    assert not module.vectors.grad[1].any()


def test_known_items_are_no_part_of_a_checkpoint() -> None:
    assert set(encoder().state_dict()) == {"vectors", "unknown"}


def test_sum_adds_the_id_vector_to_the_content_vector() -> None:
    store = random_store()
    model = random_recommender(store, item=IDAndContentConfig(content=PoolingConfig())).eval()
    items = store.batch(torch.arange(len(store)))
    parts = model.item_encoder
    expected = parts.content(items) + parts.id(items)
    torch.testing.assert_close(model.encode_items(items), expected)


def test_concat_is_a_linear_layer_over_both() -> None:
    store = random_store()
    config = IDAndContentConfig(content=PoolingConfig(), fusion="concat")
    model = random_recommender(store, item=config).eval()
    items, parts = store.batch(torch.arange(len(store))), model.item_encoder
    both = torch.cat([parts.content(items), parts.id(items)], 1)
    expected = both @ parts.fuse.weight.T + parts.fuse.bias
    torch.testing.assert_close(model.encode_items(items), expected)


def test_cold_items_of_a_fresh_model_are_told_apart_by_content_alone() -> None:
    store = random_store()
    cold = torch.tensor([5, 10, 15])  # every fifth item is unknown
    mixed = random_recommender(store, item=IDAndContentConfig(content=PoolingConfig())).eval()
    alone = random_recommender(store, item=IDConfig()).eval()
    assert torch.unique(mixed.encode_items(store.batch(cold)), dim=0).shape[0] == 3
    assert torch.unique(alone.encode_items(store.batch(cold)), dim=0).shape[0] == 1
