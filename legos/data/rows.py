"""Packing sequences into rows of equal width and into batches of so many tokens."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.errors import ConfigError


@dataclass(frozen=True)
class PackedRows:
    """Sequences in rows of equal width.

    Attributes:
        slots: ``(P,)`` int64 which of the ``num_rows * width`` slots each token has.
        positions: ``(num_rows, width)`` int64 each token's position in its sequence; in free slots
            0, or counting on where no row is shared.
        sequences: ``(num_rows, width)`` int64 the sequence of each slot, -1 in free ones; None
            where no row is shared.
        num_rows: rows.
        width: tokens a row.
    """

    slots: Tensor
    positions: Tensor
    sequences: Tensor | None
    num_rows: int
    width: int


def pack(tokens: Ragged, row_tokens: int) -> PackedRows:
    """Lay sequences into rows, in order, each row as full as the next sequence allows.

    Args:
        tokens: S sequences, at least one token in all.
        row_tokens: most tokens of a row; the longest sequence, if that is longer.
    """
    lengths = tokens.lengths.tolist()
    most = max(row_tokens, *lengths) if len(lengths) > 1 else lengths[0]
    starts: list[tuple[int, int]] = []
    row = used = width = 0
    for length in lengths:
        if used + length > most:
            row, used = row + 1, 0
        starts.append((row, used))
        used += length
        width = max(width, used)
    num_rows, device = row + 1, tokens.offsets.device
    begin = torch.tensor([line * width + start for line, start in starts], device=device)
    position, sequence = tokens.positions, tokens.rows
    slots = position + begin[sequence]
    if num_rows == len(lengths):
        counting = torch.arange(width, device=device).expand(num_rows, width)
        return PackedRows(slots, counting, None, num_rows, width)
    positions = torch.zeros(num_rows * width, dtype=torch.int64, device=device)
    positions[slots] = position
    sequences = torch.full_like(positions, -1)
    sequences[slots] = sequence
    shape = (num_rows, width)
    return PackedRows(slots, positions.view(shape), sequences.view(shape), num_rows, width)


Packing = Literal["sorted", "first_fit"]


def token_batches(lengths: Tensor, budget: int, *, packing: Packing = "sorted") -> list[Tensor]:
    """Group sequences so that no group has more than ``budget`` tokens; each is in one group.

    Args:
        lengths: ``(S,)`` int64 tokens of each sequence.
        budget: tokens a group, padding not counted.
        packing: ``sorted``: neighbours by length together, so that even padding is small;
            ``first_fit``: the longest first, each into the fullest group that still takes it, so
            that groups are nearly full.

    Returns:
        ``(n,)`` int64 sequence numbers of each group.

    Raises:
        ConfigError: a sequence is longer than the budget.
    """
    if lengths.numel() and int(lengths.max()) > budget:
        raise ConfigError(
            f"a sequence of {int(lengths.max())} tokens does not fit into a budget of {budget} "
            "tokens; raise the budget or lower max_length"
        )
    order = torch.argsort(lengths, descending=True, stable=True).tolist()
    sizes = lengths.tolist()
    groups: list[list[int]] = []
    if packing == "sorted":
        used = budget
        for number in order:
            if used + sizes[number] > budget:
                groups.append([])
                used = 0
            groups[-1].append(number)
            used += sizes[number]
    else:
        free: list[tuple[int, int]] = []  # (tokens left, group), ascending
        for number in order:
            at = bisect_left(free, (sizes[number], -1))
            if at == len(free):
                groups.append([])
                free.append((budget, len(groups) - 1))
                at = len(free) - 1
            left, group = free.pop(at)
            groups[group].append(number)
            insort(free, (left - sizes[number], group))
    return [torch.tensor(group, dtype=torch.int64) for group in groups]
