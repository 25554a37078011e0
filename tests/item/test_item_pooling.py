"""Pooling against loops over python lists."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from legos.item.pooling import PoolingConfig
from tests.bricks import FIELDS, HIDDEN_SIZE, NUM_ITEMS, lists, random_recommender, random_store
from tests.item.padded import dense, table


@pytest.mark.parametrize("flatten", [False, True])
@pytest.mark.parametrize("mode", ["mean", "max"])
def test_it_equals_loops(mode: str, flatten: bool) -> None:
    store = random_store()
    config = PoolingConfig(mode=mode, flatten=flatten)
    model = random_recommender(store, item=config).double()
    pool = {"mean": np.mean, "max": np.max}[mode]
    vectors = table(model, "words")
    expected = []
    for item in range(NUM_ITEMS):
        fields = []
        for name in FIELDS:
            if name in store.texts:
                row = lists(store.texts[name])[item]
                fields.append(pool(vectors[row], 0) if row else np.zeros(HIDDEN_SIZE))
            else:
                fields.append(table(model, name)[store.categories[name][item]])
        flat = np.concatenate(fields)
        expected.append(dense(model.item_encoder.project, flat) if flatten else pool(fields, 0))
    found = model.encode_items(store.batch(torch.arange(NUM_ITEMS))).detach().numpy()
    np.testing.assert_allclose(found, np.stack(expected), rtol=0, atol=1e-12)
