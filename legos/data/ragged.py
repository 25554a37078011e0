"""Lists of different lengths laid end to end, as torch tensors or as numpy arrays.

Torch is not imported here: the readers of raw data go without it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias

import numpy as np
from typing_extensions import TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Array = TypeVar("Array", bound="np.ndarray | Tensor", default="Tensor")
"""All arrays of one call are torch tensors, or all are numpy arrays."""


@dataclass(frozen=True)
class Ragged(Generic[Array]):
    """``N`` lists laid end to end.

    Attributes:
        values: ``(P,)`` or ``(P, E)`` all elements, row after row.
        offsets: ``(N + 1,)`` int64; row i is ``values[offsets[i]:offsets[i + 1]]``.
    """

    values: Array
    offsets: Array

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Array:
        """``(N,)`` int64 number of elements of each row."""
        offsets: Any = self.offsets
        lengths: Array = offsets[1:] - offsets[:-1]
        return lengths

    @property
    def rows(self) -> Array:
        """``(P,)`` int64: the row each element belongs to."""
        return self.spread(_count(len(self), self.offsets))

    @property
    def positions(self) -> Array:
        """``(P,)`` int64: the position of each element in its row, from 0."""
        offsets: Any = self.offsets
        positions: Array = _count(len(self.values), offsets) - self.spread(offsets[:-1])
        return positions

    @property
    def to_end(self) -> Array:
        """``(P,)`` int64: how many elements a row has from each one on, itself included."""
        offsets: Any = self.offsets
        left: Array = self.spread(offsets[1:]) - _count(len(self.values), offsets)
        return left

    def spread(self, values: Array) -> Array:
        """Repeat the value of each row for each of its elements: ``(N, ...)`` -> ``(P, ...)``."""
        repeated: Array = _repeat(values, self.lengths, len(self.values))
        return repeated

    def sums(self, values: Array) -> Array:
        """Sums of whole numbers over the rows: ``(P,)`` -> ``(N,)`` int64."""
        offsets: Any = self.offsets
        total: Any = offsets_of(values)
        sums: Array = total[offsets[1:]] - total[offsets[:-1]]
        return sums

    def row(self, number: int) -> Array:
        """The elements of one row, not copied: ``(n,)`` or ``(n, E)``."""
        values: Any = self.values
        elements: Array = values[int(self.offsets[number]) : int(self.offsets[number + 1])]
        return elements

    def to(self: Ragged[Tensor], device: torch.device | str) -> Ragged[Tensor]:
        """The same tensors on another device."""
        return Ragged(self.values.to(device), self.offsets.to(device))

    def numpy(self: Ragged[Tensor]) -> Ragged[np.ndarray]:
        """The same rows as numpy arrays, in the same memory."""
        return Ragged(self.values.numpy(), self.offsets.numpy())

    def tensors(self: Ragged[np.ndarray]) -> Ragged[Tensor]:
        """The same rows as torch tensors, in the same memory."""
        import torch

        return Ragged(torch.from_numpy(self.values), torch.from_numpy(self.offsets))

    def head(self, lengths: Array | int) -> Ragged[Array]:
        """The first elements of every row: of each the same number, or its own of ``(N,)``."""
        offsets: Any = self.offsets
        return self._slices(offsets[:-1], _library(offsets).clip(self.lengths, None, lengths))

    def tail(self, lengths: Array | int) -> Ragged[Array]:
        """The last elements of every row: of each the same number, or its own of ``(N,)``."""
        offsets: Any = self.offsets
        kept = _library(offsets).clip(self.lengths, None, lengths)
        return self._slices(offsets[1:] - kept, kept)

    def select(self, index: Array) -> Ragged[Array]:
        """Rows by number, in the order asked, ``(M,)`` int64, or by mask, ``(N,)`` bool."""
        offsets: Any = self.offsets
        starts = offsets[:-1][index]
        return self._slices(starts, offsets[1:][index] - starts)

    def keep(self, mask: Array) -> Ragged[Array]:
        """The elements where ``mask`` ``(P,)`` is True; rows stay, some of them shorter."""
        values: Any = self.values
        kept: Any = offsets_of(mask)
        return Ragged(values[mask], kept[self.offsets])

    def grouped(self, offsets: Array) -> Ragged[Array]:
        """Rows laid together: ``offsets`` ``(M + 1,)`` into the rows -> M rows of elements."""
        own: Any = self.offsets
        return Ragged(self.values, own[offsets])

    def padded_tail(self: Ragged[Tensor], index: Tensor, length: int) -> tuple[Tensor, Tensor]:
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
        position, mask = padded_aranges(ends - lengths, lengths, width)
        position.masked_fill_(~mask, 0)
        if self.values.numel() == 0:
            return self.values.new_zeros(mask.shape), mask
        return self.values[position].masked_fill(~mask, 0), mask

    def _slices(self, starts: Array, lengths: Array) -> Ragged[Array]:
        values: Any = self.values
        places = aranges(starts, lengths)
        return Ragged(values[places.values], places.offsets)


RaggedArray: TypeAlias = Ragged[np.ndarray]
"""Rows in numpy."""


def offsets_of(lengths: Array) -> Array:
    """Lengths ``(N,)``, whole numbers or bool -> offsets ``(N + 1,)`` int64."""
    library = _library(lengths)
    offsets: Array = library.zeros(len(lengths) + 1, dtype=library.int64, device=lengths.device)
    library.cumsum(lengths, 0, out=offsets[1:])
    return offsets


def from_lengths(values: Array, lengths: Array) -> Ragged[Array]:
    """Rows of known lengths: values ``(P, ...)`` and lengths ``(N,)`` that sum to P."""
    return Ragged(values, offsets_of(lengths))


def from_owners(values: Array, owners: Array, count: int) -> Ragged[Array]:
    """Rows of elements that lie in the order of their rows, ``owners`` ``(P,)``; ``count`` rows."""
    return from_lengths(values, _library(owners).bincount(owners, minlength=count))


def from_rows(rows: Sequence[np.ndarray], dtype: str) -> Ragged[np.ndarray]:
    """Arrays ``(n,)`` of one dtype each, laid end to end."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    return from_lengths(np.concatenate([np.zeros(0, dtype), *rows]), lengths)


def aranges(starts: Array, lengths: Array) -> Ragged[Array]:
    """Row i counts ``lengths[i]`` whole numbers up from ``starts[i]``; both ``(N,)`` int64."""
    offsets: Any = offsets_of(lengths)
    total = int(offsets[-1])
    shift: Any = _repeat(starts - offsets[:-1], lengths, total)
    return Ragged(_count(total, offsets) + shift, offsets)


def padded_aranges(starts: Array, lengths: Array, width: int) -> tuple[Array, Array]:
    """Rows that count up from ``starts`` ``(N,)``, as a matrix.

    Returns:
        numbers ``(N, width)`` int64, counting on under the mask, and mask ``(N, width)`` bool,
        True for the first ``lengths`` ``(N,)``.
    """
    slots: Any = _count(width, starts)
    return starts[:, None] + slots, slots < lengths[:, None]


def stack(parts: Sequence[Ragged[Array]]) -> Ragged[Array]:
    """The rows of all parts, one part after the other; at least one part."""
    library = _library(parts[0].offsets)
    lengths = library.concatenate([part.lengths for part in parts])
    return from_lengths(library.concatenate([part.values for part in parts]), lengths)


def join_rows(parts: Sequence[Ragged[Array]]) -> Ragged[Array]:
    """Row i of every part, one after the other: N rows each -> N rows; at least one part."""
    library = _library(parts[0].offsets)
    lengths = library.stack([part.lengths for part in parts])  # (parts, N)
    before = lengths.cumsum(0) - lengths  # (parts, N) what stands before a part in its row
    offsets = offsets_of(lengths.sum(0))
    first: Any = parts[0].values
    shape = (int(offsets[-1]), *first.shape[1:])
    joined = library.empty(shape, dtype=first.dtype, device=first.device)
    for part, ahead in zip(parts, before, strict=True):
        start: Any = offsets[:-1] + ahead - part.offsets[:-1]
        places = _count(len(part.values), offsets) + part.spread(start)
        joined[places] = library.asarray(part.values, dtype=first.dtype)
    return Ragged(joined, offsets)


def _library(array: Any) -> Any:
    """The library an array belongs to; what they share goes by the same names in both."""
    return np if isinstance(array, np.ndarray) else sys.modules["torch"]


def _count(count: int, like: Any) -> Any:
    """``(count,)`` int64 from 0, of the library and on the device of another array."""
    return _library(like).arange(count, device=like.device)


def _repeat(values: Any, counts: Any, total: int) -> Any:
    """Each of ``(N, ...)`` as often as ``counts`` ``(N,)`` says, ``total`` times together."""
    if isinstance(values, np.ndarray):
        return np.repeat(values, counts, axis=0)
    return values.repeat_interleave(counts, 0, output_size=total)
