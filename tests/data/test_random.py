"""Random numbers named by where they are used, against a pure-python SplitMix64."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from legos.data.sampling import below, distinct_positions, keyed_bits, mix, row_order
from tests.bricks import quick

GOLDEN, MASK = 0x9E3779B97F4A7C15, 2**64 - 1
SIGNED = st.integers(-(2**63), 2**63 - 1)


def splitmix64(state: int) -> int:
    """The finaliser in Java's ``SplittableRandom.mix64`` (Steele, Lea and Flood, 2014)."""
    state &= MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def test_mix_gives_the_published_sequence_of_seed_1234567() -> None:
    # the reference outputs of SplitMix64 (Vigna's splitmix64.c) for the seed 1234567
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    states = torch.tensor([_signed(1234567 + step * GOLDEN) for step in range(1, 6)])
    assert [value & MASK for value in mix(states).tolist()] == published


def _signed(value: int) -> int:
    value &= MASK
    return value - 2**64 if value >= 2**63 else value


@quick
@given(st.lists(SIGNED, min_size=1, max_size=8))
def test_mix_equals_the_python_finaliser(values: list[int]) -> None:
    mixed = mix(torch.tensor(values, dtype=torch.int64)).tolist()
    assert [value & MASK for value in mixed] == [splitmix64(value) for value in values]


@quick
@given(
    st.lists(st.integers(0, 2**40), min_size=1, max_size=4),
    st.lists(st.integers(0, 2**31), max_size=3),
)
def test_keyed_bits_equal_the_python_transcription(rows: list[int], keys: list[int]) -> None:
    state = 0
    for key in keys:
        state = splitmix64(state + GOLDEN + key)
    expected = [
        [splitmix64(splitmix64(state + row * GOLDEN) + slot * GOLDEN) >> 2 for slot in (1, 2, 3)]
        for row in rows
    ]
    assert keyed_bits(torch.tensor(rows), 3, *keys).tolist() == expected


def test_keyed_bits_are_in_range_and_look_uniform() -> None:
    bits = keyed_bits(torch.arange(5_000), 4, 1, 2)
    assert 0 <= int(bits.min()) <= int(bits.max()) < 2**62
    counts = torch.bincount((bits >> 58).flatten(), minlength=16)
    chi_square = float(((counts - 1250.0) ** 2 / 1250.0).sum())
    assert chi_square < 37.7  # 0.1 % point of chi-square with 15 degrees of freedom
    correlation = torch.corrcoef(bits.T.double())
    assert float((correlation - torch.eye(4)).abs().max()) < 0.05


def test_each_key_row_and_slot_has_bits_of_its_own() -> None:
    keys = [(seed, number) for seed in range(4) for number in range(4)]
    drawn = torch.stack([keyed_bits(torch.arange(50), 3, *key) for key in keys])
    assert torch.unique(drawn).numel() == drawn.numel()


@quick
@given(st.integers(0, 2**62 - 1), st.integers(0, 1000))
def test_below_is_in_range_and_zero_where_nothing_is(bits: int, limit: int) -> None:
    value = torch.tensor([bits])
    number = int(below(value, limit))
    assert number == int(below(value, torch.tensor([limit])))
    assert 0 <= number < max(limit, 1)


@quick
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(1, 5), st.integers(0, 99))
def test_distinct_positions_are_distinct_inside_the_pool_and_as_many_as_it_holds(
    sizes: list[int], count: int, seed: int
) -> None:
    bits = keyed_bits(torch.arange(len(sizes)), count, seed)
    positions, valid = distinct_positions(bits, torch.tensor(sizes))
    assert positions.shape == valid.shape == (len(sizes), count)
    for row, size in enumerate(sizes):
        assert valid[row].tolist() == [slot < size for slot in range(count)]
        chosen = positions[row][valid[row]].tolist()
        assert len(set(chosen)) == len(chosen)
        assert all(0 <= position < size for position in chosen)
        assert not positions[row][~valid[row]].any()


def test_distinct_positions_are_uniform_over_ordered_subsets() -> None:
    rows = 24_000
    positions, _ = distinct_positions(
        keyed_bits(torch.arange(rows), 3, 7), torch.full((rows,), 4, dtype=torch.int64)
    )
    counts = Counter(tuple(row) for row in positions.tolist())
    assert set(counts) == set(itertools.permutations(range(4), 3))
    expected = rows / 24
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_square < 49.7  # 0.1 % point of chi-square with 23 degrees of freedom


@pytest.mark.parametrize("num_rows", [0, 1, 257])
def test_row_order_visits_every_row_once(num_rows: int) -> None:
    order = row_order(num_rows, seed=3, pass_number=2)
    assert sorted(order.tolist()) == list(range(num_rows))


def test_row_order_is_a_function_of_seed_and_pass_alone() -> None:
    first = row_order(100, seed=3, pass_number=2)
    torch.manual_seed(99)
    assert torch.equal(row_order(100, seed=3, pass_number=2), first)
    others = [row_order(100, seed=seed, pass_number=number) for seed, number in ((3, 3), (4, 2))]
    assert all(not torch.equal(other, first) for other in others)
