"""Causal attention in blocks equals attention of each sequence alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from legos.blocks import causal
from legos.blocks.attention import MultiHeadSelfAttention
from legos.blocks.causal import CausalBlocks
from legos.data.ragged import Ragged, from_lengths

WIDTH, HEADS = 8, 2


def numbers(lengths: list[int]) -> Ragged:
    return from_lengths(torch.arange(sum(lengths)), torch.tensor(lengths))


def one_by_one(query: Tensor, key_value: Tensor, lengths: list[int]) -> Tensor:
    """Every sequence by itself through torch's causal attention."""
    outputs = []
    for q, kv in zip(query.split(lengths), key_value.split(lengths), strict=True):
        parts = [q, *kv.chunk(2, 1)]
        heads = [part.unflatten(1, (HEADS, -1)).transpose(0, 1) for part in parts]
        attended = functional.scaled_dot_product_attention(*heads, is_causal=True)
        outputs.append(attended.transpose(0, 1).flatten(1))
    return torch.cat(outputs)


def tokens(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, 3 * WIDTH, generator=generator, dtype=torch.float64)
    return drawn[:, :WIDTH].clone().requires_grad_(), drawn[:, WIDTH:].clone().requires_grad_()


@pytest.mark.slow
@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=30).filter(any))
def test_values_and_gradients_are_those_of_each_sequence_alone(lengths: list[int]) -> None:
    query, key_value = tokens(sum(lengths))
    weights = torch.arange(query.numel(), dtype=torch.float64).sin().view_as(query)
    found = CausalBlocks(numbers(lengths)).attend(query, key_value, HEADS)
    expected = one_by_one(query, key_value, lengths)
    torch.testing.assert_close(found, expected)
    pairs = zip(
        torch.autograd.grad((found * weights).sum(), [query, key_value]),
        torch.autograd.grad((expected * weights).sum(), [query, key_value]),
        strict=True,
    )
    for own, other in pairs:
        torch.testing.assert_close(own, other)


@pytest.mark.parametrize("entries", [1, 100, 200])
def test_pages_of_blocks_give_the_same(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [5, 1, 3, 7, 2, 2, 6, 7, 1, 4]
    query, key_value = tokens(sum(lengths))
    whole = CausalBlocks(numbers(lengths)).attend(query, key_value, HEADS)
    monkeypatch.setattr(causal, "_MASK_AT_ONCE", entries)
    paged = CausalBlocks(numbers(lengths)).attend(query, key_value, HEADS)
    torch.testing.assert_close(paged, whole)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_finite_and_near(dtype: torch.dtype) -> None:
    lengths = [3, 1, 6, 2, 6]
    query, key_value = tokens(sum(lengths))
    exact = CausalBlocks(numbers(lengths)).attend(query, key_value, HEADS)
    near = CausalBlocks(numbers(lengths)).attend(query.to(dtype), key_value.to(dtype), HEADS)
    assert near.dtype == dtype
    torch.testing.assert_close(near.double(), exact, rtol=0, atol=0.03)


def test_what_another_sequence_holds_changes_nothing() -> None:
    lengths = [4, 6, 6, 3]
    query, key_value = tokens(sum(lengths))
    before = CausalBlocks(numbers(lengths)).attend(query, key_value, HEADS)
    with torch.no_grad():
        query[4:10] *= 1e3
        key_value[4:10] *= 1e3
    after = CausalBlocks(numbers(lengths)).attend(query, key_value, HEADS)
    others = torch.ones(len(query), dtype=torch.bool)
    others[4:10] = False
    assert torch.equal(after[others], before[others])


def test_attention_both_ways_is_refused() -> None:
    attention = MultiHeadSelfAttention(hidden_size=WIDTH, num_heads=HEADS)
    with pytest.raises(ValueError, match="causal blocks are for causal attention"):
        attention(torch.randn(3, WIDTH), CausalBlocks(numbers([3])))
