"""Attention over padded and packed input against numpy and ``torch.nn.MultiheadAttention``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from legos.blocks.attention import (
    AdditiveAttention,
    MultiHeadSelfAttention,
    masked_softmax,
    scaled_dot_product_attention,
)
from legos.errors import ConfigError
from tests.blocks.packing import MANY_LENGTHS, SOME_LENGTHS, packed_gradient, padded_tokens

SIZE = 8
LENGTHS = pytest.mark.parametrize("lengths", [SOME_LENGTHS, MANY_LENGTHS, (0, 4), (0, 0)], ids=len)
CLOSE = {"rtol": 0.0, "atol": 1e-11}


def additive_in_numpy(attention: AdditiveAttention, values: np.ndarray) -> np.ndarray:
    """NRMS equations 5-7 on one sequence ``(S, D)``; zeros where it is empty."""
    if len(values) == 0:
        return np.zeros(values.shape[1])
    weight, bias, query = (
        parameter.detach().numpy()
        for parameter in (attention.project.weight, attention.project.bias, attention.query.weight)
    )
    scores = np.tanh(values @ weight.T + bias) @ query[0]
    weights = np.exp(scores - scores.max())
    return (weights / weights.sum()) @ values


@LENGTHS
def test_additive_attention_padded_and_packed_equal_the_equations(
    lengths: tuple[int, ...],
) -> None:
    attention = AdditiveAttention(input_size=SIZE, attention_size=5).double()
    tokens, values, mask = padded_tokens(lengths, size=SIZE)
    items = tokens.vectors.detach().split(list(lengths))
    expected = np.stack([additive_in_numpy(attention, item.numpy()) for item in items])
    padded = attention(values, mask)
    packed = attention.packed(tokens.vectors, tokens.rows, len(lengths))
    np.testing.assert_allclose(padded.detach().numpy(), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(packed.detach().numpy(), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        packed_gradient(packed, tokens), packed_gradient(padded, tokens), **CLOSE
    )


def test_additive_attention_survives_logits_that_overflow_exp() -> None:
    attention = AdditiveAttention(input_size=SIZE, attention_size=5)
    torch.nn.init.constant_(attention.query.weight, 1e4)
    tokens, values, mask = padded_tokens((4, 2), size=SIZE)
    padded = attention(values.float(), mask)
    packed = attention.packed(tokens.vectors.float(), tokens.rows, 2)
    assert torch.isfinite(padded).all()
    assert torch.isfinite(packed).all()


def test_additive_attention_pools_any_number_of_axes() -> None:
    attention = AdditiveAttention(input_size=SIZE, attention_size=5).double()
    values = torch.randn(2, 3, 4, SIZE, dtype=torch.float64)
    mask = torch.rand(2, 3, 4) < 0.6
    flat = attention(values.flatten(0, 1), mask.flatten(0, 1))
    torch.testing.assert_close(attention(values, mask).flatten(0, 1), flat, **CLOSE)


def test_masked_softmax_is_softmax_over_the_real_entries_and_zeros_without_any() -> None:
    scores = torch.tensor([[1.0, 2.0, 300.0], [5.0, 5.0, 5.0], [1.0, 2.0, 3.0]])
    mask = torch.tensor([[True, True, False], [False] * 3, [True] * 3])
    weights = masked_softmax(scores, mask)
    torch.testing.assert_close(weights[0, :2], scores[0, :2].softmax(0))
    assert weights[0, 2] == 0
    assert torch.equal(weights[1], torch.zeros(3))
    torch.testing.assert_close(weights[2], scores[2].softmax(0))


def both(
    num_heads: int, *, output_projection: bool
) -> tuple[MultiHeadSelfAttention, torch.nn.MultiheadAttention]:
    """Ours and torch's with the same weights; without ours, torch's output layer is identity."""
    ours = MultiHeadSelfAttention(
        hidden_size=SIZE, num_heads=num_heads, output_projection=output_projection
    ).double()
    torchs = torch.nn.MultiheadAttention(SIZE, num_heads, batch_first=True).double()
    torchs.in_proj_weight.data = ours.project.weight.detach().clone()
    torchs.in_proj_bias.data = ours.project.bias.detach().clone()
    if output_projection:
        torch.nn.init.normal_(ours.output.bias)
        torchs.out_proj.weight.data = ours.output.weight.detach().clone()
        torchs.out_proj.bias.data = ours.output.bias.detach().clone()
    else:
        torchs.out_proj.weight.data = torch.eye(SIZE, dtype=torch.float64)
        torchs.out_proj.bias.data = torch.zeros(SIZE, dtype=torch.float64)
    return ours, torchs


@pytest.mark.parametrize("output_projection", [False, True])
@pytest.mark.parametrize("num_heads", [1, 2, 8])
def test_padded_self_attention_equals_torchs(num_heads: int, output_projection: bool) -> None:
    ours, torchs = both(num_heads, output_projection=output_projection)
    _, values, mask = padded_tokens((3, 1, 6, 2), size=SIZE)
    expected, _ = torchs(values, values, values, key_padding_mask=~mask, need_weights=False)
    found = ours(values, mask)
    torch.testing.assert_close(found[mask], expected[mask], **CLOSE)
    assert not found[~mask].any()


@LENGTHS
@pytest.mark.parametrize("output_projection", [False, True])
def test_packed_self_attention_equals_padded(
    lengths: tuple[int, ...], output_projection: bool
) -> None:
    ours, _ = both(2, output_projection=output_projection)
    tokens, values, mask = padded_tokens(lengths, size=SIZE)
    padded, packed = ours(values, mask)[mask], ours.packed(tokens)
    assert packed.shape == (sum(lengths), SIZE)
    torch.testing.assert_close(packed, padded, **CLOSE)
    if sum(lengths):
        torch.testing.assert_close(
            packed_gradient(packed, tokens), packed_gradient(padded, tokens), **CLOSE
        )


def test_packed_self_attention_gives_its_weights_the_gradients_of_the_padded() -> None:
    tokens, values, mask = padded_tokens(MANY_LENGTHS, size=SIZE)
    ours, _ = both(4, output_projection=True)

    def gradients(output: Tensor) -> list[Tensor]:
        weights = torch.arange(output.numel(), dtype=torch.float64).sin().view_as(output)
        return list(torch.autograd.grad((output * weights).sum(), list(ours.parameters())))

    pairs = zip(gradients(ours.packed(tokens)), gradients(ours(values, mask)[mask]), strict=True)
    for packed, padded in pairs:
        torch.testing.assert_close(packed, padded, rtol=1e-9, atol=1e-9)


def test_rows_that_are_all_padding_give_zeros_and_finite_gradients() -> None:
    ours, _ = both(2, output_projection=True)
    values = torch.randn(2, 3, SIZE, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[False] * 3, [True, True, False]])
    attended = ours(values, mask)
    assert not attended[0].any()
    attended.square().sum().backward()
    assert torch.isfinite(values.grad).all()
    assert not values.grad[0].any()


def test_the_plain_products_equal_torchs_fused_kernel() -> None:
    query, key, value = torch.randn(3, 4, 2, 5, 3, dtype=torch.float64).unbind(0)
    mask = torch.arange(5) < torch.tensor([5, 1, 3, 4])[:, None]
    fused = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, mask[:, None, None, :]
    )
    torch.testing.assert_close(scaled_dot_product_attention(query, key, value, mask), fused)


def test_heads_must_divide_the_hidden_size() -> None:
    with pytest.raises(ConfigError, match=r"num_heads 3 does not divide hidden_size 8; choose one"):
        MultiHeadSelfAttention(hidden_size=8, num_heads=3)
