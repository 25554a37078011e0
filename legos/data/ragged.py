"""Lists of different lengths in two flat tensors: the storage of every list column."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ragged:
    """``N`` lists laid end to end.

    Attributes:
        values: ``(P,)`` or ``(P, E)`` all elements, row after row.
        offsets: ``(N + 1,)`` int64; row i is ``values[offsets[i]:offsets[i + 1]]``.
    """

    values: Tensor
    offsets: Tensor

    def __len__(self) -> int:
        return self.offsets.numel() - 1

    @property
    def lengths(self) -> Tensor:
        """``(N,)`` int64 number of elements of each row."""
        return self.offsets[1:] - self.offsets[:-1]

    @property
    def rows(self) -> Tensor:
        """``(P,)`` int64: the row each element belongs to."""
        index = torch.arange(len(self), device=self.offsets.device)
        return torch.repeat_interleave(index, self.lengths, output_size=self.values.shape[0])

    def to(self, device: torch.device | str) -> Ragged:
        """The same lists on another device."""
        return Ragged(self.values.to(device), self.offsets.to(device))

    def head(self, length: int) -> Ragged:
        """The first ``length`` elements of every row."""
        return self._slice(self.offsets[:-1], self.lengths.clamp(max=length))

    def tail(self, length: int) -> Ragged:
        """The last ``length`` elements of every row."""
        lengths = self.lengths.clamp(max=length)
        return self._slice(self.offsets[1:] - lengths, lengths)

    def select(self, index: Tensor) -> Ragged:
        """Rows by number, in the order asked: ``(M,)`` int64 -> M rows."""
        return self._slice(self.offsets[index], self.offsets[index + 1] - self.offsets[index])

    def joined(self, other: Ragged) -> Ragged:
        """Every row followed by the row of the same number of ``other``."""
        both = Ragged(
            torch.cat([self.values, other.values.to(self.values.dtype)]),
            torch.cat([self.offsets, self.offsets[-1] + other.offsets[1:]]),
        )
        pairs = torch.arange(len(self), device=self.offsets.device)
        joined = both.select(torch.stack([pairs, pairs + len(self)], 1).reshape(-1))
        return Ragged(joined.values, joined.offsets[::2])

    def padded_tail(self, index: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """The last ``length`` elements of the named rows, padded on the right.

        Args:
            index: ``(M,)`` int64 row numbers.
            length: the most elements a row keeps.

        Returns:
            values ``(M, W)`` (0 where there is none) and mask ``(M, W)`` bool, True = a real
            element; W is the longest row's kept length, at least 1.
        """
        ends = self.offsets[index + 1]
        lengths = (ends - self.offsets[index]).clamp(max=length)
        width = max(1, int(lengths.max())) if index.numel() else 1
        slots = torch.arange(width, device=ends.device)
        mask = slots < lengths[:, None]  # (M, W)
        position = ((ends - lengths)[:, None] + slots).masked_fill_(~mask, 0)
        if self.values.numel() == 0:
            return self.values.new_zeros(mask.shape), mask
        return self.values[position].masked_fill(~mask, 0), mask

    def _slice(self, starts: Tensor, lengths: Tensor) -> Ragged:
        offsets = torch.zeros(lengths.numel() + 1, dtype=torch.int64, device=lengths.device)
        torch.cumsum(lengths, 0, out=offsets[1:])
        total = int(offsets[-1])
        shift = torch.repeat_interleave(starts - offsets[:-1], lengths, output_size=total)
        return Ragged(self.values[torch.arange(total, device=shift.device) + shift], offsets)
