"""Given item vectors: projected as described, one learned vector where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from legos.data.items import ItemBatch
from legos.errors import ConfigError
from legos.item.fixed_vectors import FixedVectors, FixedVectorsConfig
from legos.recommender import build_brick
from legos.registry import item_encoders
from legos.training.weights import frozen_hashes, model_tensors
from tests.item.padded import dense, numbers

GIVEN = torch.tensor([[3.0, 4.0], [torch.nan, torch.nan], [0.0, 0.0], [-1.0, 2.0]])


def batch(*ids: int) -> ItemBatch:
    return ItemBatch(torch.tensor(ids), {}, {})


def encoder(given: torch.Tensor = GIVEN, **settings: Any) -> FixedVectors:
    torch.manual_seed(0)
    config = FixedVectorsConfig(**settings)
    module = build_brick(item_encoders, config, {"item_vectors": given, "hidden_size": 3})
    assert isinstance(module, FixedVectors)
    return module.double().eval()


@pytest.mark.parametrize("normalise", [False, True])
def test_a_given_vector_goes_through_a_linear_layer(normalise: bool) -> None:
    module = encoder(normalise=normalise)
    rows = GIVEN[[3, 0, 2]].double().numpy()
    if normalise:
        rows = rows / np.array([[5**0.5], [5.0], [1.0]])  # a vector of zeros stays
    expected = dense(module.project[-1], rows)
    np.testing.assert_allclose(numbers(module(batch(3, 0, 2))), expected, rtol=0, atol=1e-12)


def test_hidden_sizes_are_relu_layers() -> None:
    module = encoder(hidden_sizes=(5, 4))
    first, _, _, second, _, _, last = module.project
    hidden = np.maximum(dense(first, GIVEN[[0]].double().numpy()), 0)
    expected = dense(last, np.maximum(dense(second, hidden), 0))
    np.testing.assert_allclose(numbers(module(batch(0))), expected, rtol=0, atol=1e-12)


def test_items_without_a_vector_and_new_items_share_a_learned_one() -> None:
    vectors = encoder()(batch(1, 4, 1000, 2))
    assert torch.equal(vectors[:3], encoder().missing.expand(3, -1))
    assert not torch.equal(vectors[3], vectors[0])


@pytest.mark.parametrize("tune", [False, True])
def test_given_vectors_are_trained_where_told(tune: bool) -> None:
    module = encoder(tune=tune, normalise=True).train()
    module(batch(0, 1, 2, 3)).square().sum().backward()
    assert module.missing.grad is not None
    assert module.missing.grad.any()
    if tune:
        assert module.vectors.grad is not None
        assert module.vectors.grad.isfinite().all()
        assert module.vectors.grad.any(1).tolist() == [True, False, True, True]
    else:
        assert module.vectors.grad is None


def test_a_checkpoint_holds_trained_vectors_and_remembers_others() -> None:
    assert "vectors" in model_tensors(encoder(tune=True))
    assert set(model_tensors(encoder())) == {"missing", "project.0.weight", "project.0.bias"}
    other = GIVEN.clone()
    other[3] += 1
    assert frozen_hashes(encoder()) == frozen_hashes(encoder())
    assert frozen_hashes(encoder()) != frozen_hashes(encoder(other))


def test_without_vectors_it_says_where_they_are_named() -> None:
    context = {"item_vectors": None, "hidden_size": 3}
    with pytest.raises(ConfigError, match=r"name their file in embed\.item_vectors"):
        build_brick(item_encoders, FixedVectorsConfig(), context)
