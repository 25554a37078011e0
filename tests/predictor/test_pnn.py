"""PNN against its product layer's equations; Legommenders takes one inner product."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from legos.predictor.pnn import PNN, PNNConfig, Product
from tests.predictor.transcribed import (
    SIZE,
    Array,
    assert_scores,
    built,
    linear,
    number,
    perceptron,
    relu,
)


@pytest.mark.parametrize("product", ["inner", "outer"])
def test_the_product_layer_equals_the_equations(product: Product) -> None:
    module = built(PNNConfig(hidden_sizes=(7, 3), product=product))
    weight = number(module.weight)

    def signal(n: int, fields: tuple[Array, ...]) -> float:
        """The products of all pairs of fields, each times its weight in W_p^n."""
        pairs = [(i, j) for i in range(len(fields)) for j in range(len(fields))]
        if product == "inner":  # W_p^n is the outer product of theta^n with itself
            return sum(weight[n, i] * weight[n, j] * (fields[i] @ fields[j]) for i, j in pairs)
        products = sum(np.outer(fields[i], fields[j]) for i, j in pairs)
        return sum(weight[n, a, b] * products[a, b] for a in range(SIZE) for b in range(SIZE))

    def score(*fields: Array) -> float:
        linear_signal = linear(module.linear, np.concatenate(fields))
        product_signal = np.array([signal(n, fields) for n in range(7)])
        return perceptron(module.mlp, relu(linear_signal + product_signal))[0]

    assert_scores(module, score)


@pytest.mark.parametrize("product", ["inner", "outer"])
def test_legommenders_is_a_perceptron_over_both_and_their_inner_product(product: Product) -> None:
    module = built(PNNConfig(hidden_sizes=(7, 3), product=product, variant="legommenders"))
    assert [name for name, _ in module.named_parameters() if "linear" not in name] == [
        name for name, _ in module.named_parameters() if name.startswith("mlp")
    ]

    def score(user: Array, candidate: Array) -> float:
        given = np.concatenate([user, candidate, [user @ candidate]])
        return perceptron(module.mlp, relu(linear(module.linear, given)))[0]

    assert_scores(module, score)


@pytest.mark.parametrize("product", ["inner", "outer"])
def test_product_weights_start_as_those_of_a_linear_layer_do(product: Product) -> None:
    torch.manual_seed(0)
    module = PNN(PNNConfig(hidden_sizes=(256,), product=product), hidden_size=64)
    bound = 2 * 64 if product == "inner" else 64**2
    assert module.weight.abs().max().item() <= bound**-0.5
