"""Cosine over temperature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from legos.predictor.cosine import Cosine, CosineConfig
from tests.predictor.transcribed import Array, assert_scores, vectors


@pytest.mark.parametrize("learn_temperature", [False, True])
def test_it_is_the_cosine_over_the_temperature(learn_temperature: bool) -> None:
    settings = CosineConfig(temperature=0.2, learn_temperature=learn_temperature)
    module = Cosine(settings).double()

    def score(user: Array, candidate: Array) -> float:
        dot = sum(a * b for a, b in zip(user, candidate, strict=True))
        return dot / math.sqrt((user @ user) * (candidate @ candidate)) / temperature

    temperature = float(torch.exp(-module.log_scale.detach()))
    assert temperature == pytest.approx(0.2, rel=1e-6)
    assert_scores(module, score)
    assert [p.requires_grad for p in module.parameters()] == [learn_temperature]


def test_a_zero_vector_scores_zero_and_gets_a_moderate_gradient() -> None:
    module = Cosine(CosineConfig()).double()
    user, candidates = vectors(2, 1), vectors(2, 3, seed=1)
    user[0] = 0
    candidates[1, 2] = 0
    user.requires_grad_()
    candidates.requires_grad_()
    scores = module(user, candidates)
    assert np.argwhere(scores.detach().numpy() == 0).tolist() == [[0, 0], [0, 1], [0, 2], [1, 2]]
    scores.sum().backward()
    for tensor in (user, candidates, module.log_scale):
        assert float(tensor.grad.abs().max()) < 1e3
