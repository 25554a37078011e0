"""Random numbers as a function of where they are used, not of what was drawn before.

A draw is named by (seed, pass, row, slot): any number of processes and any resume draw the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed integer
_FIRST = -4658895280553007687  # 0xBF58476D1CE4E5B9
_SECOND = -7723592293110705685  # 0x94D049BB133111EB


def _shift_right(value: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64 (torch's own keeps the sign)."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def mix(value: Tensor) -> Tensor:
    """Scramble int64 values so that neighbours become unrelated.

    The finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", OOPSLA 2014, figure 16); int64 arithmetic wraps as the method needs.
    """
    value = (value ^ _shift_right(value, 30)) * _FIRST
    value = (value ^ _shift_right(value, 27)) * _SECOND
    return value ^ _shift_right(value, 31)


def keyed_bits(rows: Tensor, slots: int, *keys: int) -> Tensor:
    """Random bits for each (row, slot) under the given keys.

    Args:
        rows: ``(B,)`` int64 row numbers.
        slots: how many draws a row needs.
        keys: what else names the draw, for example seed, pass and round.

    Returns:
        ``(B, slots)`` int64, uniform over [0, 2**62).
    """
    state = torch.zeros((), dtype=torch.int64, device=rows.device)
    for key in keys:
        state = mix(state + _GOLDEN + key)
    slot = torch.arange(slots, device=rows.device)
    return _shift_right(mix(mix(state + rows * _GOLDEN)[:, None] + (slot + 1) * _GOLDEN), 2)


def below(bits: Tensor, limit: Tensor | int) -> Tensor:
    """Integers in [0, limit) from random bits; the bias is below limit / 2**62.

    A limit of 0 gives 0, for the caller to mask.
    """
    if isinstance(limit, int):
        return bits % max(limit, 1)
    return bits % limit.clamp(min=1)


def distinct_positions(bits: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Draw without replacement from pools of different sizes.

    Args:
        bits: ``(B, K)`` random bits.
        sizes: ``(B,)`` int64 pool sizes.

    Returns:
        positions ``(B, K)`` in [0, size), all different in a row, and valid ``(B, K)`` bool: slot j
        is valid where the pool has more than j elements.
    """
    count = bits.shape[1]
    slots = torch.arange(count, device=bits.device)
    valid = slots < sizes[:, None]
    ranks = below(bits, (sizes[:, None] - slots).clamp(min=1))  # rank among what is not yet taken
    taken = ranks[:, :1]
    columns = [taken[:, 0]]
    for slot in range(1, count):
        position = ranks[:, slot]
        for earlier in taken.unbind(1):  # ascending: step over each taken position passed
            position = position + (position >= earlier)
        columns.append(position)
        taken = torch.cat([taken, position[:, None]], 1).sort(1).values
    return torch.stack(columns, 1).where(valid, torch.zeros_like(bits)), valid


def row_order(num_rows: int, *, seed: int, pass_number: int) -> Tensor:
    """The order in which one pass over the training rows visits them: ``(num_rows,)`` int64."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + pass_number) % 2**63)
    return torch.randperm(num_rows, generator=generator)
