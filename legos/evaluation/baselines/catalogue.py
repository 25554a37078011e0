"""The baselines where all items are ranked: their scores for a page of users."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from legos.data.random import keyed_bits
from legos.errors import ConfigError, nearest
from legos.evaluation.baselines.methods import Reading, item_knn_rows, text_cosine_rows
from legos.evaluation.rank import Ranked, Ranking, rank

PageScores = Callable[[np.ndarray], np.ndarray]
"""Rows of ``reading.histories`` ``(s,)`` -> scores ``(s, len(reading.items))``."""


def rank_by_baseline(
    name: str, reading: Reading, ranking: Ranking, *, page_size: int = 512, k: int | None = None
) -> Ranked:
    """Rank all items for every state of a split.

    Args:
        name: of the baseline.
        reading: with a ``catalogue``, of the split.
        ranking: what of the split to rank.
        page_size: states scored at once.
        k: how many of the best items to list.

    Raises:
        ConfigError: no baseline of that name ranks all items.
        DataError: it needs texts, and the items have none.
    """
    if name not in PAGES:
        raise ConfigError(f"no baseline {name!r} over all items; {nearest(name, PAGES)}")
    begin = time.perf_counter()
    scores_of = PAGES[name](reading)
    row_of = np.searchsorted(reading.states, ranking.states.histories.cpu().numpy())
    device, items = ranking.owner.device, torch.from_numpy(reading.items)

    def score(states: Tensor) -> Tensor:
        rows = row_of[states.cpu().numpy()]
        scores = torch.zeros(len(rows), ranking.offered.numel())
        scores[:, items] = torch.from_numpy(scores_of(rows)).float()
        return scores.to(device)

    found = rank(ranking, score, page_size=page_size, k=k)
    return replace(found, seconds=time.perf_counter() - begin)


def _random(reading: Reading) -> PageScores:
    """Uniform noise, named by history state and item."""

    def scores(rows: np.ndarray) -> np.ndarray:
        bits = keyed_bits(torch.from_numpy(rows), len(reading.items), 0).numpy()
        return bits / 2.0**62

    return scores


def _popularity(reading: Reading) -> PageScores:
    """How many users read the item in the training split."""
    counts = np.asarray(reading.reads.sum(0)).ravel()[reading.items]

    def scores(rows: np.ndarray) -> np.ndarray:
        return np.broadcast_to(counts, (len(rows), len(counts))).copy()

    return scores


def _of_histories(
    rows_of: Callable[[Reading], Callable[[sparse.csr_matrix], np.ndarray]],
) -> Callable[[Reading], PageScores]:
    def over(reading: Reading) -> PageScores:
        scores_of = rows_of(reading)

        def scores(rows: np.ndarray) -> np.ndarray:
            return scores_of(reading.histories[rows])

        return scores

    return over


def _item_knn_text_cosine(reading: Reading) -> PageScores:
    """Sum of both methods' scores, each standardised over all items."""
    parts = [_of_histories(rows)(reading) for rows in (item_knn_rows, text_cosine_rows)]

    def scores(rows: np.ndarray) -> np.ndarray:
        total = np.zeros((len(rows), len(reading.items)))
        for part in parts:
            found = part(rows)
            deviation = found.std(1, keepdims=True)
            total += (found - found.mean(1, keepdims=True)) / np.where(deviation > 0, deviation, 1)
        return total

    return scores


PAGES: dict[str, Callable[[Reading], PageScores]] = {
    "random": _random,
    "popularity": _popularity,
    "item_knn": _of_histories(item_knn_rows),
    "text_cosine": _of_histories(text_cosine_rows),
    "item_knn_text_cosine": _item_knn_text_cosine,
}
"""Per name of ``exp.baselines`` what scores a page; all but the oracle."""
