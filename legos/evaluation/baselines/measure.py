"""What the baselines reach on a split, measured like a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from legos.config.checks import OF_TEXTS
from legos.config.schema import RunConfig
from legos.data.sampling import keyed_bits
from legos.data.tables import Tables
from legos.errors import ConfigError, nearest
from legos.evaluation.baselines.methods import (
    BASELINES,
    ORACLE,
    Reading,
    baseline_scores,
    item_knn_rows,
    text_cosine_rows,
)
from legos.evaluation.measure import Scored, SplitResult, measure, measure_ranked
from legos.evaluation.rank import Ranked, Ranking, rank, ranking_of
from legos.runs.results import Tracker
from legos.workplace.workplace import Workplace


def measure_baselines(place: Workplace, tracker: Tracker, known: dict[str, dict[str, Any]]) -> None:
    """Score and measure the baselines of ``exp.baselines`` on every test split.

    Args:
        place: configuration and data.
        tracker: told what is skipped.
        known: by split and baseline what ``SplitResult.summary()`` gave; filled here, nothing is
            computed twice.
    """
    for split in place.config.data.splits.test:
        names = possible_baselines(place.config, place.tables, split)
        for name in place.config.exp.baselines:
            if name not in names:
                tracker.say(f"{split}: no {BASELINES[name][0]}, the data do not know it")
        found = dict(known.get(split, {}))
        if set(names) - set(found):
            measured = _measured(place, split)
            for name in names:
                if name not in found:
                    found[name] = measured(name).summary()
        known[split] = found


def _measured(place: Workplace, split: str) -> Callable[[str], SplitResult]:
    """What measures a baseline by its name on a split."""
    data, interactions = place.config.data, place.split(split)
    ranks_all = place.config.exp.evaluate.ranking == "all"
    reading = Reading(
        place.tables,
        split,
        train=data.splits.train,
        history_length=data.history_length,
        text_model=place.config.exp.evaluate.text_model,
        catalogue=place.tables.offered.numpy() if ranks_all else None,
    )
    if ranks_all:
        ranking = ranking_of(place, interactions)

        def ranked(name: str) -> SplitResult:
            config = place.config.exp.evaluate
            found = rank_by_baseline(
                name,
                reading,
                ranking,
                page_size=config.page_size,
                k=config.beyond_accuracy_k,
            )
            return measure_ranked(place, found, interactions, thorough=True)

        return ranked

    def scored(name: str) -> SplitResult:
        begin = time.perf_counter()
        scores = baseline_scores(name, reading)
        found = Scored(scores, None, time.perf_counter() - begin)
        return measure(place, found, interactions, thorough=True)

    return scored


def possible_baselines(config: RunConfig, tables: Tables, split: str) -> list[str]:
    """Those of ``exp.baselines`` that a split has the columns for.

    The oracle knows the candidates that were shown, and nothing of other items; a text baseline
    needs items with texts.
    """
    unknown = set() if tables.text_fields else set(OF_TEXTS)
    if config.exp.evaluate.ranking == "all" or not tables.has(split, ORACLE):
        unknown.add(ORACLE)
    return [name for name in config.exp.baselines if name not in unknown]


def missing_baselines(
    config: RunConfig, tables: Tables, known: Mapping[str, Mapping[str, Any]]
) -> bool:
    """Whether ``measure_baselines`` has anything to compute."""
    return any(
        name not in known.get(split, {})
        for split in config.data.splits.test
        for name in possible_baselines(config, tables, split)
    )


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
