"""GDCN's gated cross network, parallel and stacked, against its equations."""

from __future__ import annotations

import numpy as np
import pytest

from legos.predictor.gdcn import GDCNConfig, Structure
from tests.predictor.transcribed import Array, assert_scores, built, hidden, linear, sigmoid


@pytest.mark.parametrize("structure", ["parallel", "stacked"])
@pytest.mark.parametrize("num_cross_layers", [1, 3])
def test_it_equals_the_equations(num_cross_layers: int, structure: Structure) -> None:
    config = GDCNConfig(hidden_sizes=(7, 3), structure=structure, num_cross_layers=num_cross_layers)
    module = built(config)
    assert len(module.cross.layers) == num_cross_layers

    def score(user: Array, candidate: Array) -> float:
        first = np.concatenate([user, candidate])
        crossed = first
        for layer in module.cross.layers:
            gate = sigmoid(linear(layer.gate, crossed))
            crossed = first * linear(layer.linear, crossed) * gate + crossed
        if structure == "stacked":
            return linear(module.combine, hidden(module.deep, crossed))[0]
        return linear(module.combine, np.concatenate([crossed, hidden(module.deep, first)]))[0]

    assert_scores(module, score)
