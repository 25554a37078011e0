"""The words of many strings as positions in one buffer, cut and numbered without a Python loop."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from legos.data.ragged import Ragged, aranges, offsets_of

SPACE, LINE_FEED = 32, 10
WORD = 8  # bytes of a uint64
# KEEP[n] keeps the first n bytes in memory of a uint64 and clears the others
KEEP = np.tril(np.full((WORD + 1, WORD), 255, dtype=np.uint8), -1).view(np.uint64).ravel()


@dataclass(frozen=True)
class Spans:
    """The tokens of many strings as positions in one buffer.

    Attributes:
        buffer: ``(bytes,)`` uint8, eight more than the strings have.
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
        return Ragged(self.starts, self.offsets).rows

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
        codes, first = pd.factorize(self._words(0, np.arange(len(self))))
        count, begin = len(first), WORD
        longer = np.flatnonzero(lengths > begin)  # only those that have bytes left
        while len(longer):
            further, distinct = pd.factorize(self._words(begin, longer))
            pairs, first = pd.factorize(codes[longer] * len(distinct) + further)
            codes[longer] = count + pairs
            count, begin = count + len(first), begin + WORD
            longer = longer[lengths[longer] > begin]
        codes, _ = pd.factorize(codes)
        return codes, self._texts(first_rows(codes))

    def _texts(self, tokens: np.ndarray) -> list[str]:
        """The named tokens as strings, decoded at once with a line feed after each."""
        if len(tokens) == 0:
            return []
        lengths = self.ends[tokens] - self.starts[tokens] + 1
        places = aranges(self.starts[tokens], lengths)
        joined = self.buffer[places.values]
        joined[places.offsets[1:] - 1] = LINE_FEED
        texts: list[str] = joined[:-1].tobytes().decode("utf-8").split("\n")
        return texts

    def _words(self, begin: int, tokens: np.ndarray) -> np.ndarray:
        """Bytes ``begin`` to ``begin + 8`` of the named tokens as uint64, zeros past the end."""
        starts = self.starts[tokens] + begin
        every = np.ndarray(  # the eight bytes from every place on, as one number
            (len(self.buffer) - WORD + 1,), np.uint64, buffer=self.buffer, strides=(1,)
        )
        words: np.ndarray = every[starts] & KEEP[np.minimum(self.ends[tokens] - starts, WORD)]
        return words


def split_at_spaces(strings: np.ndarray) -> Spans:
    """Cut every string at its spaces; empty tokens are left out.

    Args:
        strings: ``(n,)`` str objects without line feeds and NUL characters.
    """
    if len(strings) == 0:
        empty = np.zeros(0, dtype=np.int64)
        return Spans(np.zeros(WORD, dtype=np.uint8), empty, empty, np.zeros(1, dtype=np.int64))
    text = "\n".join(strings.tolist()).encode("utf-8")
    buffer = np.frombuffer(text + bytes(WORD), dtype=np.uint8)
    cuts = np.flatnonzero((buffer == SPACE) | (buffer == LINE_FEED))
    starts = np.concatenate([[0], cuts + 1])
    ends = np.concatenate([cuts, [len(text)]])
    row = offsets_of(buffer[cuts] == LINE_FEED)
    real = ends > starts
    counts = np.bincount(row[real], minlength=len(strings))
    return Spans(buffer, starts[real], ends[real], offsets_of(counts))


def first_rows(codes: np.ndarray) -> np.ndarray:
    """``(k,)`` int64: the first position of each of the codes 0 to k - 1 in ``codes (n,)``."""
    first = np.zeros(int(codes.max()) + 1 if len(codes) else 0, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]  # of several writes the last one stays
    return first
