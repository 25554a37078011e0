"""Fastformer against a transcription of the paper's equations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from legos.blocks.attention import LearnedPositions
from legos.blocks.fastformer import Fastformer, FastformerAttention, FastformerSettings
from legos.errors import ConfigError
from tests.blocks.fastformer_in_numpy import attention, encode
from tests.blocks.packing import MANY_LENGTHS, SOME_LENGTHS, packed_gradient, padded_tokens
from tests.blocks.test_transformer_blocks import noisy
from tests.item.padded import numbers

SIZE, LENGTHS = 8, (3, 1, 6, 2)
CLOSE = {"rtol": 0.0, "atol": 1e-11}


def built(**settings: Any) -> Fastformer:
    places = LearnedPositions(count=40, size=SIZE, from_end=False, setting="max_positions")
    return noisy(Fastformer(FastformerSettings(**settings), hidden_size=SIZE, positions=places))


@pytest.mark.parametrize("num_heads", [1, 2, 8])
def test_attention_is_as_transcribed(num_heads: int) -> None:
    module = noisy(FastformerAttention(hidden_size=SIZE, num_heads=num_heads))
    torch.nn.init.normal_(module.query_weight)
    torch.nn.init.normal_(module.key_weight)
    _, values, mask = padded_tokens(LENGTHS, size=SIZE)
    found = numbers(module(values, mask))
    for row, length in enumerate(LENGTHS):
        expected = attention(module, numbers(values)[row, :length])
        np.testing.assert_allclose(found[row, :length], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("share_layers", [True, False])
def test_layers_are_as_transcribed(share_layers: bool) -> None:
    module = built(num_layers=3, num_heads=2, share_layers=share_layers, feed_forward_size=12)
    assert len(module.layers) == (1 if share_layers else 3)
    _, values, mask = padded_tokens(LENGTHS, size=SIZE)
    found = numbers(module(values, mask))
    for row, length in enumerate(LENGTHS):
        placed = numbers(values)[row, :length] + numbers(module.positions.vectors)[:length]
        expected = encode(module, placed, num_layers=3)
        np.testing.assert_allclose(found[row, :length], expected, rtol=0, atol=1e-11)
        assert not found[row, length:].any()


@pytest.mark.parametrize("lengths", [SOME_LENGTHS, MANY_LENGTHS, (0, 4), (0, 0)], ids=len)
def test_packed_equals_padded(lengths: tuple[int, ...]) -> None:
    module = built(num_layers=2, num_heads=2)
    tokens, values, mask = padded_tokens(lengths, size=SIZE)
    padded, packed = module(values, mask)[mask], module.packed(tokens)
    assert packed.shape == (sum(lengths), SIZE)
    torch.testing.assert_close(packed, padded, **CLOSE)
    if sum(lengths):
        torch.testing.assert_close(
            packed_gradient(packed, tokens), packed_gradient(padded, tokens), rtol=0, atol=1e-10
        )


def test_rows_that_are_all_padding_give_zeros_and_finite_gradients() -> None:
    module = built(num_layers=2, num_heads=2)
    values = torch.randn(2, 3, SIZE, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[False] * 3, [True, True, False]])
    encoded = module(values, mask)
    assert not encoded[~mask].any()
    (encoded * torch.randn(encoded.shape, dtype=torch.float64)).sum().backward()
    assert torch.isfinite(values.grad).all()
    assert not values.grad[~mask].any()


def test_heads_must_divide_the_hidden_size() -> None:
    with pytest.raises(ConfigError, match="num_heads 3 does not divide hidden_size 8; choose one"):
        FastformerAttention(hidden_size=8, num_heads=3)
