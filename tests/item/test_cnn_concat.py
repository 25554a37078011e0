"""LSTUR's item encoder against a padded transcription."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from legos.data.items import ItemBatch
from legos.item.cnn_concat import CNNConcatConfig
from legos.recommender import Recommender
from tests.bricks import FIELDS, HIDDEN_SIZE, NUM_ITEMS, random_batch, random_recommender
from tests.bricks import random_store as store_of
from tests.item.padded import attend, convolve, dense, numbers, table, words


def lstur(model: Recommender, items: ItemBatch) -> np.ndarray:
    """Section 3.1: the vectors of all fields side by side."""
    encoder, fields = model.item_encoder, []
    for name in items.texts:
        values, mask = words(model, items, name)
        convolution = encoder.convolutions[name]
        weight, bias = numbers(convolution.weight), numbers(convolution.bias)
        contextual = np.maximum(convolve(values, weight, bias), 0)
        fields.append(attend(encoder.word_attention[name], contextual, mask))
    for name, ids in items.categories.items():
        vectors = table(model, name)[ids.numpy()]
        projected = isinstance(encoder.dense[name], nn.Linear)
        fields.append(dense(encoder.dense[name], vectors) if projected else vectors)
    return np.concatenate(fields, 1)


@pytest.mark.parametrize("project", [False, True])
@pytest.mark.parametrize("category_projection", [False, True])
@pytest.mark.parametrize("fields", [FIELDS, ("title",), ("title", "category")], ids=len)
def test_it_equals_the_padded_transcription(
    fields: tuple[str, ...], category_projection: bool, project: bool
) -> None:
    store = store_of(fields=fields)
    config = CNNConcatConfig(
        attention_size=10, category_projection=category_projection, project=project
    )
    model = random_recommender(store, item=config).double().eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    items = store.batch(torch.arange(NUM_ITEMS))
    expected = lstur(model, items)
    if project:
        expected = dense(model.item_encoder.project, expected)
    found = numbers(model.encode_items(items))
    assert found.shape[1] == model.item_encoder.output_size
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def test_user_and_item_are_as_wide_as_all_fields_together() -> None:
    store = store_of()
    model = random_recommender(store, item=CNNConcatConfig())
    batch, items = random_batch(store)
    assert model.item_encoder.output_size == len(FIELDS) * HIDDEN_SIZE
    assert model.user_encoder.attention.project.in_features == len(FIELDS) * HIDDEN_SIZE
    assert torch.isfinite(model(batch, items).scores).all()
