"""FinalMLP against its equations: gates, two streams, bilinear layer by parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from legos.errors import ConfigError
from legos.predictor.finalmlp import FinalMLPConfig
from tests.predictor.transcribed import (
    Array,
    assert_scores,
    built,
    hidden,
    number,
    perceptron,
    sigmoid,
    vectors,
)


@pytest.mark.parametrize("feature_selection", [True, False])
@pytest.mark.parametrize("num_heads", [1, 2, 4])
def test_it_equals_the_equations(num_heads: int, feature_selection: bool) -> None:
    module = built(
        FinalMLPConfig(
            hidden_sizes=(7, 4),
            num_heads=num_heads,
            feature_selection=feature_selection,
            gate_sizes=(5,),
        )
    )

    def score(user: Array, candidate: Array) -> float:
        both = np.concatenate([user, candidate])
        first, second = both, both
        if feature_selection:
            first = 2 * sigmoid(perceptron(module.gates[0], user)) * both
            second = 2 * sigmoid(perceptron(module.gates[1], candidate)) * both
        first, second = hidden(module.streams[0], first), hidden(module.streams[1], second)
        weights_of_first, weights_of_second = np.split(number(module.linear.weight)[0], 2)
        total = number(module.linear.bias)[0]
        part = 4 // num_heads
        for head in range(num_heads):
            place = slice(head * part, (head + 1) * part)
            total += weights_of_first[place] @ first[place]
            total += weights_of_second[place] @ second[place]
            total += first[place] @ number(module.bilinear)[head] @ second[place]
        return float(total)

    assert_scores(module, score)


def test_gates_that_are_half_open_are_as_none() -> None:
    with_gates = built(FinalMLPConfig(hidden_sizes=(7, 4)))
    without = built(FinalMLPConfig(hidden_sizes=(7, 4), feature_selection=False))
    weights = with_gates.state_dict()
    assert not without.gates
    without.load_state_dict({k: v for k, v in weights.items() if not k.startswith("gates")})
    user, candidates = vectors(3, 1), vectors(3, 5, seed=1)
    assert not torch.allclose(with_gates(user, candidates), without(user, candidates))
    for parameter in with_gates.gates.parameters():
        nn.init.zeros_(parameter)
    torch.testing.assert_close(with_gates(user, candidates), without(user, candidates))


def test_heads_that_do_not_divide_the_last_width_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"num_heads 3 .* last hidden width 4.* 1, 2, 4"):
        built(FinalMLPConfig(hidden_sizes=(7, 4), num_heads=3))
