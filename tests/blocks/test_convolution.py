"""Packed convolution against ``torch.nn.Conv1d`` on each item alone."""

from __future__ import annotations

import pytest
import torch

from legos.blocks.packed import PackedConvolution
from legos.errors import ConfigError
from tests.blocks.packing import MANY_LENGTHS, SOME_LENGTHS, packed_gradient, padded_tokens


def both(kernel_size: int) -> tuple[PackedConvolution, torch.nn.Conv1d]:
    """The packed convolution and torch's with the same weights."""
    packed = PackedConvolution(input_size=4, output_size=6, kernel_size=kernel_size).double()
    torch.nn.init.normal_(packed.bias)
    reference = torch.nn.Conv1d(4, 6, kernel_size, padding="same").double()
    reference.weight.data = packed.weight.detach().permute(1, 2, 0).clone()
    reference.bias.data = packed.bias.detach().clone()
    return packed, reference


@pytest.mark.parametrize("kernel_size", [1, 3, 5, 9])
@pytest.mark.parametrize("lengths", [SOME_LENGTHS, MANY_LENGTHS, (1,), (0, 0, 2)], ids=len)
def test_it_equals_torch_on_each_item(lengths: tuple[int, ...], kernel_size: int) -> None:
    packed, reference = both(kernel_size)
    tokens, _, _ = padded_tokens(lengths, size=4)
    items = tokens.vectors.split(list(lengths))
    expected = torch.cat([reference(item.T[None])[0].T for item in items if len(item)])
    found = packed(tokens)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        packed_gradient(found, tokens), packed_gradient(expected, tokens), rtol=0, atol=1e-11
    )


def test_its_weights_get_torchs_gradients() -> None:
    packed, reference = both(3)
    tokens, _, _ = padded_tokens(SOME_LENGTHS, size=4)
    weights = torch.randn(sum(SOME_LENGTHS), 6, dtype=torch.float64)
    items = tokens.vectors.split(list(SOME_LENGTHS))
    expected = torch.cat([reference(item.T[None])[0].T for item in items if len(item)])
    (packed(tokens) * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(packed.weight.grad.permute(1, 2, 0), reference.weight.grad)
    torch.testing.assert_close(packed.bias.grad, reference.bias.grad)


@pytest.mark.parametrize("lengths", [(0, 0), (0,)], ids=str)
def test_items_without_tokens_give_no_positions(lengths: tuple[int, ...]) -> None:
    packed, _ = both(3)
    tokens, _, _ = padded_tokens(lengths, size=4)
    assert packed(tokens).shape == (0, 6)


def test_an_even_window_has_no_centre() -> None:
    with pytest.raises(ConfigError, match="kernel_size 2 is even; a centred window needs odd"):
        PackedConvolution(input_size=4, output_size=4, kernel_size=2)
