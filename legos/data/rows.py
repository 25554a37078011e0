"""Packing sequences into rows of equal width and into batches of so many tokens."""

from __future__ import annotations

from dataclasses import dataclass

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


def token_batches(lengths: Tensor, budget: int) -> list[Tensor]:
    """Group sequences so that no group has more than ``budget`` tokens; each is in one group.

    Neighbours by length stand together, the longest first, so that even padding is small.

    Args:
        lengths: ``(S,)`` int64 tokens of each sequence.
        budget: tokens a group, padding not counted.

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
    sizes, groups, used = lengths.tolist(), list[list[int]](), budget
    for number in lengths.argsort(descending=True, stable=True).tolist():
        if used + sizes[number] > budget:
            groups.append([])
            used = 0
        groups[-1].append(number)
        used += sizes[number]
    return [torch.tensor(group, dtype=torch.int64) for group in groups]
