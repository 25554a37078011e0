"""DCN V2 against its equations 1-4, both structures, full matrices and experts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from legos.predictor.dcnv2 import DCNv2Config, Structure, Variant
from tests.predictor.transcribed import (
    Array,
    assert_scores,
    built,
    hidden,
    linear,
    number,
    softmax,
    vectors,
)


def crossed_by(layer: nn.Module, first: Array, current: Array) -> Array:
    """Equation 1, or equations 3 and 4: a gated sum over experts, x0 and b in each."""
    if not hasattr(layer, "down"):
        return first * linear(layer.linear, current) + current
    gates = np.ones(1) if layer.gate is None else softmax(number(layer.gate.weight) @ current)
    experts = zip(gates, layer.down, layer.middle, layer.up, strict=True)
    total = np.zeros_like(current)
    for gate, down, middle, up in experts:
        low = np.tanh(number(middle) @ np.tanh(number(down).T @ current))
        total += gate * first * (number(up) @ low + number(layer.bias))
    return total + current


@pytest.mark.parametrize("variant", ["paper", "legommenders"])
@pytest.mark.parametrize("structure", ["parallel", "stacked"])
@pytest.mark.parametrize("num_experts", [0, 1, 3])
def test_it_equals_the_equations(num_experts: int, structure: Structure, variant: Variant) -> None:
    module = built(
        DCNv2Config(
            hidden_sizes=(7, 3),
            structure=structure,
            num_cross_layers=2,
            mixture=num_experts > 0,
            num_experts=max(1, num_experts),
            rank=4,
            variant=variant,
        )
    )

    def score(user: Array, candidate: Array) -> float:
        first = np.concatenate([user, candidate])
        crossed = first
        for layer in module.cross.layers:
            crossed = crossed_by(layer, first, crossed)
        if structure == "stacked":
            return linear(module.combine, hidden(module.deep, crossed))[0]
        deep = hidden(module.deep, first if variant == "paper" else crossed)
        return linear(module.combine, np.concatenate([crossed, deep]))[0]

    assert_scores(module, score)


@pytest.mark.parametrize("structure", ["parallel", "stacked"])
def test_the_variants_differ_in_what_the_parallel_perceptron_reads(structure: Structure) -> None:
    config = DCNv2Config(hidden_sizes=(7,), structure=structure)
    paper = built(config)
    legommenders = built(config.model_copy(update={"variant": "legommenders"}))
    user, candidates = vectors(3, 1), vectors(3, 5, seed=1)

    def equal() -> bool:
        return torch.equal(paper(user, candidates), legommenders(user, candidates))

    assert equal() == (structure == "stacked")
    for module in (paper, legommenders):
        for parameter in module.cross.parameters():  # x' = x: the cross output is the input
            nn.init.zeros_(parameter)
    assert equal()
