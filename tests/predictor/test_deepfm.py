"""DeepFM against its equations 1-5; Legommenders' has no first order and takes the mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from legos.blocks.embedding import as_fields, side_by_side
from legos.predictor.deepfm import DeepFMConfig, Variant
from tests.predictor.transcribed import Array, assert_scores, built, linear, perceptron, vectors


@pytest.mark.parametrize("variant", ["paper", "legommenders"])
def test_it_equals_the_equations(variant: Variant) -> None:
    module = built(DeepFMConfig(hidden_sizes=(7, 3), variant=variant))

    def score(*fields: Array) -> float:
        flat = np.concatenate(fields)
        second = sum(
            fields[i] @ fields[j] for i in range(len(fields)) for j in range(i + 1, len(fields))
        )
        deep = perceptron(module.mlp, flat)[0]
        if variant == "legommenders":
            return (second + deep) / 2
        return linear(module.first_order, flat)[0] + second + deep

    assert_scores(module, score)


def test_legommenders_is_half_the_paper_without_its_first_order() -> None:
    config = DeepFMConfig(hidden_sizes=(7,))
    paper = built(config)
    legommenders = built(config.model_copy(update={"variant": "legommenders"}))
    legommenders.mlp.load_state_dict(paper.mlp.state_dict())
    user, candidates = vectors(3, 1), vectors(3, 5, seed=1)
    first_order = paper.first_order(side_by_side(user, candidates)).squeeze(-1)
    assert first_order.abs().min() > 1e-3
    torch.testing.assert_close(
        legommenders(user, candidates), (paper(user, candidates) - first_order) / 2
    )


def test_fields_are_the_user_then_the_candidate() -> None:
    user, candidates = vectors(3, 1), vectors(3, 5, seed=1)
    fields = as_fields(user, candidates)
    assert fields.shape == (3, 5, 2, user.shape[-1])
    assert torch.equal(fields[:, 4, 0], user[:, 0])
    assert torch.equal(fields[:, :, 1], candidates)
    assert torch.equal(fields.flatten(-2), side_by_side(user, candidates))
