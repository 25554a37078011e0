from __future__ import annotations

from collections import Counter

import torch

from legos.data.random import distinct_positions, keyed_bits, mix, row_order

WRAP = 2**64


def splitmix_finaliser(value: int) -> int:
    """Figure 16 of Steele, Lea and Flood (OOPSLA 2014) in plain integers."""
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % WRAP
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % WRAP
    return value ^ (value >> 31)


def test_mix_is_the_finaliser_of_splitmix64() -> None:
    values = [0, 1, 2, 12345678901234567, -1, -(2**63)]
    found = mix(torch.tensor(values)).tolist()
    assert [value % WRAP for value in found] == [splitmix_finaliser(v % WRAP) for v in values]


def test_bits_depend_on_row_slot_and_keys_alone() -> None:
    rows = torch.arange(1000)
    bits = keyed_bits(rows, 4, 7, 0)
    assert torch.equal(keyed_bits(rows.flip(0), 4, 7, 0).flip(0), bits)
    assert torch.equal(keyed_bits(rows[5:6], 4, 7, 0)[0], bits[5])
    assert bits.unique().numel() == bits.numel()
    for other in (keyed_bits(rows, 4, 8, 0), keyed_bits(rows, 4, 7, 1), keyed_bits(rows, 4, 0, 7)):
        assert not (other == bits).any()
    assert int(bits.min()) >= 0
    assert abs(float(bits.double().mean()) / 2**61 - 1) < 0.02


def test_draws_without_replacement_are_distinct_and_uniform_over_subsets() -> None:
    bits = keyed_bits(torch.arange(30_000), 2, 1)
    positions, valid = distinct_positions(bits, torch.full((30_000,), 4))
    assert valid.all()
    counts = Counter(map(tuple, positions.tolist()))
    assert len(counts) == 12  # ordered pairs of four, never twice the same
    assert all(abs(count - 2500) < 5 * 2500**0.5 for count in counts.values())


def test_small_pools_are_used_up_and_the_rest_is_invalid() -> None:
    bits = keyed_bits(torch.arange(50), 5, 3)
    sizes = torch.arange(50) % 8
    positions, valid = distinct_positions(bits, sizes)
    for row in range(50):
        size = int(sizes[row])
        drawn = positions[row][valid[row]].tolist()
        assert len(drawn) == min(5, size)
        assert len(set(drawn)) == len(drawn)
        assert all(0 <= position < size for position in drawn)
        assert size > 5 or set(drawn) == set(range(size))


def test_order_of_a_pass_is_a_seeded_permutation() -> None:
    order = row_order(100, seed=3, pass_number=0)
    assert order.sort().values.tolist() == list(range(100))
    assert torch.equal(row_order(100, seed=3, pass_number=0), order)
    assert not torch.equal(row_order(100, seed=3, pass_number=1), order)
    assert not torch.equal(row_order(100, seed=4, pass_number=0), order)
