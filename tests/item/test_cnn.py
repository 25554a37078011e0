"""NAML's item encoder against padded transcriptions of the paper and of Legommenders."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from legos.data.items import ItemBatch
from legos.data.ragged import Ragged
from legos.item.cnn import CNNConfig
from legos.recommender import Recommender
from tests.bricks import FIELDS, NUM_ITEMS, random_recommender, random_store
from tests.item.padded import attend, convolve, dense, numbers, table, words


def model_and_items(
    form: str, *, fields: tuple[str, ...] = FIELDS, kernel_size: int = 3
) -> tuple[Recommender, ItemBatch]:
    store = random_store(fields=fields)
    config = CNNConfig(form=form, kernel_size=kernel_size, attention_size=10)
    model = random_recommender(store, item=config).double().eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return model, store.batch(torch.arange(NUM_ITEMS))


def naml(model: Recommender, items: ItemBatch) -> np.ndarray:
    """Section 3.1 of the paper: four views, then attention over the views that there are."""
    encoder, views, present = model.item_encoder, [], []
    for name in items.texts:
        values, mask = words(model, items, name)
        convolution = encoder.convolutions[name]
        weight, bias = numbers(convolution.weight), numbers(convolution.bias)
        contextual = np.maximum(convolve(values, weight, bias), 0)  # equation 1
        views.append(attend(encoder.word_attention[name], contextual, mask))  # equations 2-4
        present.append(mask.any(1))
    for name, ids in items.categories.items():
        vectors = table(model, name)[ids.numpy()]
        views.append(np.maximum(dense(encoder.dense[name], vectors), 0))  # equations 8 and 9
        present.append(np.ones(len(items), dtype=bool))
    return attend(encoder.view_attention, np.stack(views, 1), np.stack(present, 1))


def legommenders(model: Recommender, items: ItemBatch) -> np.ndarray:
    """One convolution and one linear layer for all fields, one attention over their sequence."""
    encoder, parts, masks = model.item_encoder, [], []
    for name in items.texts:
        values, mask = words(model, items, name)
        convolution = encoder.convolutions["all"]
        weight, bias = numbers(convolution.weight), numbers(convolution.bias)
        parts.append(np.maximum(convolve(values, weight, bias), 0))
        masks.append(mask)
    for name, ids in items.categories.items():
        parts.append(dense(encoder.dense["all"], table(model, name)[ids.numpy()])[:, None])
        masks.append(np.ones((len(items), 1), dtype=bool))
    return attend(encoder.view_attention, np.concatenate(parts, 1), np.concatenate(masks, 1))


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("fields", [FIELDS, ("title", "abstract"), ("title", "category")], ids=len)
@pytest.mark.parametrize("form", ["views", "sequence"])
def test_it_equals_the_padded_transcription(
    form: str, fields: tuple[str, ...], kernel_size: int
) -> None:
    model, items = model_and_items(form, fields=fields, kernel_size=kernel_size)
    expected = {"views": naml, "sequence": legommenders}[form](model, items)
    found = model.encode_items(items).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def test_a_single_text_is_its_own_view() -> None:
    model, items = model_and_items("views", fields=("title",))
    assert model.item_encoder.view_attention is None
    encoder = model.item_encoder
    values, mask = words(model, items, "title")
    convolution = encoder.convolutions["title"]
    contextual = convolve(values, numbers(convolution.weight), numbers(convolution.bias))
    expected = attend(encoder.word_attention["title"], np.maximum(contextual, 0), mask)
    found = model.encode_items(items).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def test_the_two_forms_differ_even_with_the_same_weights() -> None:
    views, items = model_and_items("views")
    sequence, _ = model_and_items("sequence")
    weights = views.item_encoder.state_dict()
    first_tower = {"convolutions.all": "convolutions.title", "dense.all": "dense.category"}
    shared = {}
    for name in sequence.item_encoder.state_dict():
        part = ".".join(name.split(".")[:2])
        shared[name] = weights[name.replace(part, first_tower.get(part, part))]
    sequence.item_encoder.load_state_dict(shared)
    assert len(weights) > len(shared)  # towers of their own
    difference = views.encode_items(items) - sequence.encode_items(items)
    assert (difference.abs().amax(1) > 1e-3).all()


def test_a_missing_text_leaves_the_other_views_alone() -> None:
    model, items = model_and_items("views", fields=("title", "category"))
    encoder = model.item_encoder
    dense_view = np.maximum(
        dense(encoder.dense["category"], table(model, "category")[items.categories["category"]]), 0
    )
    empty = items.texts["title"].lengths.eq(0).numpy()
    found = model.encode_items(items).detach().numpy()
    assert empty.any()
    np.testing.assert_allclose(found[empty], dense_view[empty], rtol=0, atol=1e-12)


def test_word_order_matters() -> None:
    model, items = model_and_items("views", fields=("title",))
    title = items.texts["title"]
    backwards = torch.cat([part.flip(0) for part in title.values.split(title.lengths.tolist())])
    flipped = ItemBatch(items.ids, {"title": Ragged(backwards, title.offsets)}, {})
    before, after = model.encode_items(items), model.encode_items(flipped)
    assert ((before - after).abs().amax(1) > 1e-6)[title.lengths > 2].all()
