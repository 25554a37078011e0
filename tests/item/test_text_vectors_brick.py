"""Vectors of items' texts: scaled, projected, read from the cache of a language model."""

from __future__ import annotations

import numpy as np
import torch

from legos.data.items import ItemStore
from legos.data.ragged import Ragged
from legos.item.text_vectors import TextVectors, TextVectorsConfig
from legos.lm.states import FINAL
from tests.bricks import random_language_model


def test_an_item_is_the_projection_of_its_vector_at_length_one() -> None:
    torch.manual_seed(0)
    made = TextVectors(
        TextVectorsConfig(), language_model=random_language_model(), hidden_size=5
    ).eval()
    final = torch.randn(4, 8)
    final[2] = 0  # an item without a word
    language = {FINAL: Ragged(final, torch.arange(5))}
    store = ItemStore(fields={}, texts={}, categories={}, num_items=4, language=language)
    found = made(store.batch(torch.tensor([3, 2]))).detach().numpy()
    weights = [value.detach().numpy() for value in made.project.parameters()]
    unit = final[3].numpy() / np.linalg.norm(final[3].numpy())
    np.testing.assert_allclose(found[0], weights[0] @ unit + weights[1], atol=1e-6)
    np.testing.assert_allclose(found[1], weights[1], atol=1e-6)
