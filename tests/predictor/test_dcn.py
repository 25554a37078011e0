"""DCN against its equations 3-7."""

from __future__ import annotations

import numpy as np
import pytest

from legos.predictor.dcn import DCNConfig
from tests.predictor.transcribed import Array, assert_scores, built, hidden, linear, number


@pytest.mark.parametrize("hidden_sizes", [(7, 3), ()], ids=str)
@pytest.mark.parametrize("num_cross_layers", [1, 3])
def test_it_equals_the_equations(num_cross_layers: int, hidden_sizes: tuple[int, ...]) -> None:
    module = built(DCNConfig(num_cross_layers=num_cross_layers, hidden_sizes=hidden_sizes))
    assert len(module.cross.layers) == num_cross_layers

    def score(user: Array, candidate: Array) -> float:
        first = np.concatenate([user, candidate])
        crossed = first
        for layer in module.cross.layers:
            weight = number(layer.weight.weight)[0]
            crossed = np.outer(first, crossed) @ weight + number(layer.bias) + crossed
        return linear(module.combine, np.concatenate([crossed, hidden(module.deep, first)]))[0]

    assert_scores(module, score)
