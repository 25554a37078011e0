"""Dropout by choices of 16 bits: at the rate, with the mean kept, from torch's generator."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from legos.blocks.dropout import Dropout, dropout

COUNT = 400_000


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5, 0.9])
def test_entries_vanish_at_the_rate_and_the_others_keep_the_mean(rate: float) -> None:
    torch.manual_seed(0)
    found = dropout(torch.ones(COUNT), rate)
    zeros = (found == 0).float().mean()
    assert abs(zeros - rate) < 4 * (rate * (1 - rate) / COUNT) ** 0.5  # four standard errors
    assert torch.allclose(found[found != 0], torch.tensor(1 / (1 - rate)), rtol=2**-14)


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    kept = (dropout(torch.ones(COUNT // 4, 4), 0.5) != 0).float()
    together = kept.T @ kept / len(kept)  # (4, 4): how often both of a pair stay
    expected = torch.full((4, 4), 0.25).fill_diagonal_(0.5)
    assert torch.allclose(together, expected, atol=0.01)


@given(shape=st.lists(st.integers(0, 5), max_size=3), seed=st.integers(0, 99))
def test_a_gradient_sees_the_same_choices(shape: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    values = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    found = dropout(values, 0.3)
    found.sum().backward()
    assert found.shape == values.shape
    assert torch.equal(found, values * values.grad)


def test_choices_come_from_the_generator_and_half_precision_stays() -> None:
    module = Dropout(0.4)
    values = torch.randn(7, 9, dtype=torch.bfloat16)
    state = torch.get_rng_state()
    first, second = module(values), module(values)
    torch.set_rng_state(state)
    assert torch.equal(module(values), first)
    assert not torch.equal(first, second)
    assert first.dtype == torch.bfloat16


def test_nothing_is_dropped_while_evaluating_and_everything_at_one() -> None:
    values = torch.randn(5)
    assert Dropout(0.5).eval()(values) is values
    assert dropout(values, 0.0) is values
    assert torch.equal(dropout(values, 1.0), torch.zeros(5))
