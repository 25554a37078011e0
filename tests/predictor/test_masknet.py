"""MaskNet against its equations: masks, mask blocks, serial and parallel."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from legos.predictor.masknet import MaskBlock, MaskNetConfig, Structure
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


def layer_norm(norm: nn.LayerNorm, values: Array) -> Array:
    """Equation 8."""
    deviation = values - values.mean()
    standard = deviation / np.sqrt((deviation**2).mean() + norm.eps)
    return number(norm.weight) * standard + number(norm.bias)


def mask_block(block: MaskBlock, instance: Array, values: Array) -> Array:
    """Equations 5 and 11-14: the mask is always made from the embeddings as they came."""
    mask = linear(block.mask[2], relu(linear(block.mask[0], instance)))
    return relu(layer_norm(block.norm, number(block.linear.weight) @ (mask * values)))


@pytest.mark.parametrize("structure", ["parallel", "serial"])
@pytest.mark.parametrize("num_blocks", [1, 3])
def test_it_equals_the_equations(num_blocks: int, structure: Structure) -> None:
    config = MaskNetConfig(
        hidden_sizes=(7,), structure=structure, num_blocks=num_blocks, block_size=5
    )
    module = built(config)
    assert len(module.blocks) == num_blocks

    def score(*fields: Array) -> float:
        instance = np.concatenate(fields)
        normed = [layer_norm(norm, field) for norm, field in zip(module.norms, fields, strict=True)]
        values = np.concatenate(normed)
        if structure == "parallel":
            outputs = [mask_block(block, instance, values) for block in module.blocks]
            return perceptron(module.output, np.concatenate(outputs))[0]
        for block in module.blocks:
            values = mask_block(block, instance, values)
        assert len(module.output) == 1  # the prediction layer stands on the last block
        return linear(module.output[0], values)[0]

    assert_scores(module, score)


@pytest.mark.parametrize("reduction_ratio", [0.5, 1.0, 2.0])
def test_the_ratio_widens_the_hidden_layer_of_a_mask(reduction_ratio: float) -> None:
    config = MaskNetConfig(structure="serial", block_size=10, reduction_ratio=reduction_ratio)
    widths = [
        (block.mask[0].in_features, block.mask[0].out_features, block.mask[2].out_features)
        for block in built(config).blocks
    ]
    first, later = 2 * SIZE, 10
    assert widths == [(2 * SIZE, reduction_ratio * width, width) for width in (first, later, later)]
