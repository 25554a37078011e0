"""HSTU is its equations, user by user, without padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from legos.blocks.causal import CausalBlocks
from legos.data.ragged import from_lengths
from legos.errors import ConfigError
from legos.user.hstu import HSTU, HSTUConfig
from tests.bricks import HIDDEN_SIZE, random_recommender, random_store, user_input
from tests.item.padded import Array, dense, numbers

LENGTHS = (0, 1, 3, 7, 2)


def built(**changes: object) -> HSTU:
    config = HSTUConfig.model_validate({"max_history": 9, **changes})
    encoder: HSTU = random_recommender(random_store(), user=config).user_encoder.double().eval()
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    return encoder


def silu(values: Array) -> Array:
    return values / (1 + np.exp(-values))


def norm(values: Array) -> Array:
    spread = values - values.mean(-1, keepdims=True)
    return spread / np.sqrt((spread**2).mean(-1, keepdims=True) + 1e-6)


def transcribed(encoder: HSTU, sequence: Array, *, heads: int) -> Array:
    """Equations 1 to 3 for each head and place, distances by hand."""
    sequence = sequence * HIDDEN_SIZE**0.5
    if encoder.positions is not None:
        sequence = sequence + numbers(encoder.positions.vectors)[: len(sequence)]
    width = HIDDEN_SIZE // heads
    for layer in encoder.layers:
        gate, query, key, value = np.split(
            silu(norm(sequence) @ numbers(layer.project).T), 4, axis=1
        )
        bias, summed = numbers(layer.bias), np.zeros_like(sequence)
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            for place in range(len(sequence)):
                for before in range(place + 1):
                    score = query[place, part] @ key[before, part] + bias[head, place - before]
                    summed[place, part] += silu(score) * value[before, part] / 9
        sequence = sequence + dense(layer.output, norm(summed) * gate)
    return sequence[-1]


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("positions", [True, False])
def test_hstu_is_as_transcribed(heads: int, positions: bool) -> None:
    encoder = built(num_heads=heads, positions=positions)
    shown = user_input(LENGTHS)
    rows = [numbers(row[mask]) for row, mask in zip(shown.history, shown.mask, strict=True)]
    expected = [
        transcribed(encoder, row, heads=heads) if len(row) else np.zeros(HIDDEN_SIZE)
        for row in rows
    ]
    np.testing.assert_allclose(numbers(shown(encoder)), np.stack(expected), rtol=0, atol=1e-9)


def test_a_state_is_the_user_of_the_history_up_to_there() -> None:
    encoder, shown = built(num_heads=2), user_input((7,))
    states = encoder.states(shown.history, shown.mask)
    for length in range(1, 8):
        mask = torch.arange(shown.history.shape[1])[None] < length
        torch.testing.assert_close(encoder(shown.history, mask)[0], states[length - 1])


@pytest.mark.slow
@settings(deadline=None)
@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=20).filter(any))
def test_packed_sequences_are_summed_as_each_alone(lengths: list[int]) -> None:
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randn(sum(lengths), 24, generator=generator, dtype=torch.float64)
    bias = torch.randn(2, 7, generator=generator, dtype=torch.float64).requires_grad_()
    query, key_value = drawn[:, :8].clone().requires_grad_(), drawn[:, 8:].clone().requires_grad_()
    rows = from_lengths(torch.arange(sum(lengths)), torch.tensor(lengths))
    whole = CausalBlocks(rows).attend_pointwise(query, key_value, bias)
    each = []
    for begin, length in zip(np.cumsum([0, *lengths]), lengths, strict=False):
        part = slice(begin, begin + length)
        own = from_lengths(torch.arange(length), torch.tensor([length]))
        if length:
            each.append(CausalBlocks(own).attend_pointwise(query[part], key_value[part], bias))
    alone = torch.cat(each)
    torch.testing.assert_close(whole, alone)
    given_to = [query, key_value, bias]
    weights = torch.arange(whole.numel(), dtype=torch.float64).sin().view_as(whole)
    for own, other in zip(
        torch.autograd.grad((whole * weights).sum(), given_to),
        torch.autograd.grad((alone * weights).sum(), given_to),
        strict=True,
    ):
        torch.testing.assert_close(own, other)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="num_heads 3 does not divide"):
        built(num_heads=3)
