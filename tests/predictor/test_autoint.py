"""AutoInt against its equations 5-9, loops over fields and heads; AutoInt+ adds a perceptron."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from legos.blocks.embedding import FieldAttention
from legos.predictor.autoint import AutoIntConfig
from tests.predictor.transcribed import (
    SIZE,
    Array,
    assert_scores,
    built,
    linear,
    number,
    perceptron,
    relu,
    softmax,
    vectors,
)


def interact(layer: FieldAttention, fields: list[Array], head_size: int) -> list[Array]:
    """Equations 5-8."""
    query, key, value = np.split(number(layer.project.weight), 3)
    outputs = []
    for field in fields:
        heads = []
        for head in range(layer.num_heads):
            rows = slice(head * head_size, (head + 1) * head_size)
            scores = [(query[rows] @ field) @ (key[rows] @ other) for other in fields]
            weights = softmax(np.array(scores))
            heads.append(
                sum(w * (value[rows] @ other) for w, other in zip(weights, fields, strict=True))
            )
        outputs.append(relu(np.concatenate(heads) + number(layer.residual.weight) @ field))
    return outputs


@pytest.mark.parametrize("hidden_sizes", [(), (7, 3)], ids=["AutoInt", "AutoInt+"])
@pytest.mark.parametrize(("num_layers", "num_heads"), [(1, 1), (3, 2)])
def test_it_equals_the_equations(
    num_layers: int, num_heads: int, hidden_sizes: tuple[int, ...]
) -> None:
    config = AutoIntConfig(
        num_layers=num_layers, num_heads=num_heads, head_size=4, hidden_sizes=hidden_sizes
    )
    module = built(config)
    assert len(module.interact) == num_layers
    assert (module.mlp is None) == (not hidden_sizes)

    def score(*fields: Array) -> float:
        interacted = list(fields)
        for layer in module.interact:
            interacted = interact(layer, interacted, 4)
        total = linear(module.output, np.concatenate(interacted))[0]
        if hidden_sizes:
            total += perceptron(module.mlp, np.concatenate(fields))[0]
        return total

    assert_scores(module, score)


def test_an_interacting_layer_takes_any_number_of_fields() -> None:
    layer = FieldAttention(input_size=SIZE, num_heads=2, head_size=3).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    fields = vectors(2, 5)
    found = number(layer(fields))
    for row in range(2):
        expected = interact(layer, list(fields[row].numpy()), 3)
        np.testing.assert_allclose(found[row], expected, rtol=0, atol=1e-10)
