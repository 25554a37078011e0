"""Score files: one line an impression, for reading and in the format of the MIND leaderboard."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from legos.data.ragged import Ragged
from legos.files import atomic_path


def write_scores(
    path: Path,
    impressions: list[str],
    items: list[str],
    candidates: np.ndarray,
    offsets: np.ndarray,
    scores: np.ndarray,
) -> None:
    """``impression TAB item:score TAB item:score ...``, best candidate first.

    Args:
        path: the file to write.
        impressions: raw id of each impression.
        items: raw id of every item.
        candidates: ``(M,)`` item rows, impression after impression.
        offsets: ``(n + 1,)`` where each impression's candidates begin.
        scores: ``(M,)`` float32.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as target:
        for row, order in enumerate(_orders(scores, offsets)):
            best = [f"{items[candidates[place]]}:{scores[place]:.6g}" for place in order]
            target.write("\t".join([impressions[row], *best]) + "\n")


def write_leaderboard(
    path: Path, impressions: list[str], offsets: np.ndarray, scores: np.ndarray
) -> None:
    """``impression [ranks]``: the rank of each candidate in the order given (1 = best).

    The submission format of https://msnews.github.io, ``prediction.txt``.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as target:
        for row, order in enumerate(_orders(scores, offsets)):
            ranks = np.empty(order.size, dtype=np.int64)
            ranks[order - offsets[row]] = np.arange(1, order.size + 1)
            target.write(f"{impressions[row]} [{','.join(map(str, ranks))}]\n")


def _orders(scores: np.ndarray, offsets: np.ndarray) -> Iterator[np.ndarray]:
    """Positions of each impression's candidates, best first; ties keep the order given."""
    rows = Ragged(scores, offsets).rows
    order = np.lexsort((-scores, rows))  # stable
    for begin, end in pairwise(offsets):
        yield order[begin:end]
