"""NRMS's item encoder against a padded transcription of the paper's equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from legos.data.items import ItemBatch
from legos.item.attention import AttentionConfig
from legos.recommender import Recommender
from tests.bricks import FIELDS, NUM_ITEMS, random_recommender, random_store
from tests.item.padded import attend, self_attend, table, words


def nrms(model: Recommender, items: ItemBatch) -> np.ndarray:
    """Section 3.1: self-attention over all tokens of an item, then additive attention."""
    parts, masks = [], []
    for name in items.texts:
        values, mask = words(model, items, name)
        parts.append(values)
        masks.append(mask)
    for name, ids in items.categories.items():
        parts.append(table(model, name)[ids.numpy()][:, None])
        masks.append(np.ones((len(items), 1), dtype=bool))
    sequence, mask = np.concatenate(parts, 1), np.concatenate(masks, 1)
    encoder = model.item_encoder
    return attend(encoder.attention, self_attend(encoder.self_attention, sequence, mask), mask)


@pytest.mark.parametrize("output_projection", [False, True])
@pytest.mark.parametrize("num_heads", [1, 8])
@pytest.mark.parametrize("fields", [FIELDS, ("title",), ("title", "category")], ids=len)
def test_it_equals_the_padded_transcription(
    fields: tuple[str, ...], num_heads: int, output_projection: bool
) -> None:
    store = random_store(fields=fields)
    config = AttentionConfig(
        num_heads=num_heads, attention_size=10, output_projection=output_projection
    )
    model = random_recommender(store, item=config).double().eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    items = store.batch(torch.arange(NUM_ITEMS))
    found = model.encode_items(items).detach().numpy()
    np.testing.assert_allclose(found, nrms(model, items), rtol=0, atol=1e-10)
