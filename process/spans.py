"""Space-separated ids in millions: cut out and numbered on bytes, without a Python string each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from process.lists import first_rows, offsets_of

SPACE, LINE_FEED = 32, 10
WORD = 8  # bytes of a uint64


@dataclass(frozen=True)
class Spans:
    """The tokens of many strings as positions in one buffer.

    Attributes:
        buffer: ``(bytes,)`` uint8.
        starts: ``(T,)`` int64 first byte of each token.
        ends: ``(T,)`` int64 byte after its last.
        offsets: ``(n + 1,)`` int64; string i has the tokens ``offsets[i]`` to ``offsets[i + 1]``.
    """

    buffer: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def rows(self) -> np.ndarray:
        """``(T,)`` int64: the string each token belongs to."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def from_end(self, distance: int) -> np.ndarray:
        """``(T,)`` uint8: the byte ``distance`` from the end (1 = last), 0 where too short."""
        place = self.ends - distance
        return np.where(place >= self.starts, self.buffer[np.maximum(place, 0)], 0)

    def without_end(self, length: int) -> Spans:
        """Every token without its last ``length`` bytes."""
        return replace(self, ends=np.maximum(self.ends - length, self.starts))

    def text(self, index: int) -> str:
        """One token as a string."""
        return self.buffer[self.starts[index] : self.ends[index]].tobytes().decode("utf-8")

    def factorize(self) -> tuple[np.ndarray, list[str]]:
        """Number the distinct tokens in order of first appearance.

        Returns:
            codes ``(T,)`` int64 and the distinct tokens.
        """
        lengths = self.ends - self.starts
        longest = int(lengths.max()) if len(self) else 0
        codes, _ = pd.factorize(self._word(0, lengths))
        for begin in range(WORD, longest, WORD):
            further, _ = pd.factorize(self._word(begin, lengths))
            codes, _ = pd.factorize(codes * (int(further.max()) + 1) + further)
        return codes, [self.text(index) for index in first_rows(codes).tolist()]

    def _word(self, begin: int, lengths: np.ndarray) -> np.ndarray:
        """Bytes ``begin`` to ``begin + 8`` of each token as one uint64, zeros past the end."""
        word = np.zeros(len(self), dtype=np.uint64)
        for place in range(begin, min(begin + WORD, int(lengths.max()) if len(self) else 0)):
            inside = lengths > place
            byte = self.buffer[np.where(inside, self.starts + place, 0)].astype(np.uint64)
            word |= np.where(inside, byte, 0) << np.uint64(8 * (place - begin))
        return word


def split_at_spaces(strings: np.ndarray) -> Spans:
    """Cut every string at its spaces; empty tokens are left out.

    Args:
        strings: ``(n,)`` str objects without line feeds and NUL characters.
    """
    if len(strings) == 0:
        empty = np.zeros(0, dtype=np.int64)
        return Spans(np.zeros(0, dtype=np.uint8), empty, empty, np.zeros(1, dtype=np.int64))
    buffer = np.frombuffer("\n".join(strings.tolist()).encode("utf-8"), dtype=np.uint8)
    cuts = np.flatnonzero((buffer == SPACE) | (buffer == LINE_FEED))
    starts = np.concatenate([[0], cuts + 1])
    ends = np.concatenate([cuts, [len(buffer)]])
    row = np.concatenate([[0], np.cumsum(buffer[cuts] == LINE_FEED)])
    real = ends > starts
    counts = np.bincount(row[real], minlength=len(strings))
    return Spans(buffer, starts[real], ends[real], offsets_of(counts))
