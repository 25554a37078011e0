"""Methods without training that every model is shown beside.

Each gives one score a candidate from what the training split knows and from the history of the
impression; none looks at the labels of the split it scores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from legos.config.schema import OF_TEXTS, RunConfig
from legos.data.ragged import Ragged
from legos.data.sampling import keyed_bits
from legos.data.tables import Tables
from legos.errors import ConfigError, DataError, nearest
from legos.evaluation.measure import Scored, SplitResult, measure, measure_ranked
from legos.evaluation.rank import Ranked, Ranking, rank, ranking_of
from legos.lm.locate import locate, packaged
from legos.lm.source import LanguageModelSource
from legos.runs.folder import Tracker
from legos.workplace.workplace import Workplace

_STATES_AT_ONCE = 512  # history states scored at once: 512 x distinct candidates floats
ORACLE = "oracle"

Scorer = Callable[["Reading"], np.ndarray]


class Reading:
    """What a baseline may look at.

    Args:
        tables: the data set.
        split: the split to score.
        train: name of the training split.
        history_length: newest items of a history that scores are made from; who read what in
            the training split is counted from whole histories.
        vectors_cache: folder for text vectors.
        text_model: language model of the text baselines; None: all-MiniLM-L6-v2.
        catalogue: ``(items,)`` bool: score these items, not the candidates alone.
    """

    def __init__(
        self,
        tables: Tables,
        split: str,
        *,
        train: str = "train",
        history_length: int | None = None,
        vectors_cache: Path = Path("cache/item-vectors"),
        text_model: LanguageModelSource | None = None,
        catalogue: np.ndarray | None = None,
    ) -> None:
        self.tables, self.split = tables, split
        self.vectors_cache = vectors_cache
        self.text_model = text_model or packaged("minilm")
        candidates = tables.lists(split, "candidates")
        histories = tables.lists("histories", "items")
        self.reads = self._train_reads(train, _counts(histories, tables.num_items))
        if history_length is not None:
            histories = histories.tail(history_length)
        self.candidates = candidates.values.numpy().astype(np.int64)
        # a day shows few of all items, so scores are computed for these alone: items[place[m]] is
        # candidate m
        self.items, self.place = np.unique(self.candidates, return_inverse=True)
        if catalogue is not None:
            self.items = np.flatnonzero(catalogue)
            self.place = np.searchsorted(self.items, self.candidates)
        self.impressions = candidates.rows.numpy()
        self.offsets = candidates.offsets.numpy()
        self.states, self.state_of = np.unique(
            tables.scalar(split, "history").numpy(), return_inverse=True
        )
        counts = _counts(histories, tables.num_items)[self.states]
        totals = np.maximum(np.asarray(counts.sum(1)).ravel(), 1)
        # (states, items): share of each item in a history state of the split
        self.histories = sparse.diags(1 / totals).dot(counts).tocsr().astype(np.float32)

    def _train_reads(self, train: str, histories: sparse.csr_matrix) -> sparse.csr_matrix:
        """``(users, items)`` 1 where a user clicked or had read an item by the training split."""
        tables = self.tables
        shown = tables.lists(train, "candidates")
        clicked = tables.lists(train, "labels").values.numpy() == 1
        users = tables.scalar(train, "user_id").numpy().astype(np.int64)
        states = tables.scalar(train, "history").numpy()
        history = histories[states].tocoo()
        rows = np.concatenate([users[shown.rows.numpy()[clicked]], users[history.row]])
        columns = np.concatenate([shown.values.numpy()[clicked], history.col])
        reads = sparse.csr_matrix(
            (np.ones(len(rows), np.float32), (rows, columns)),
            shape=(tables.num_users, tables.num_items),
        )
        reads.data[:] = 1.0
        return reads

    def pair_scores(self, rows: Callable[[sparse.csr_matrix], np.ndarray]) -> np.ndarray:
        """Score candidates by their impression's history state.

        Args:
            rows: ``(n, all items)`` histories -> ``(n, len(items))`` dense scores; called in
                chunks.
        """
        owner = self.state_of[self.impressions]
        order = np.argsort(owner, kind="stable")
        bounds = np.searchsorted(owner[order], np.arange(len(self.states) + 1))
        scores = np.empty(len(self.candidates), np.float32)
        for begin in range(0, len(self.states), _STATES_AT_ONCE):
            end = min(begin + _STATES_AT_ONCE, len(self.states))
            pairs = order[bounds[begin] : bounds[end]]
            dense = rows(self.histories[begin:end])
            scores[pairs] = dense[owner[pairs] - begin, self.place[pairs]]
        return scores


def _counts(histories: Ragged, num_items: int) -> sparse.csr_matrix:
    """``(states, items)`` how often each item stands in each history."""
    return sparse.csr_matrix(
        (
            np.ones(histories.values.numel(), np.float32),
            histories.values.numpy().astype(np.int64),
            histories.offsets.numpy(),
        ),
        shape=(len(histories), num_items),
    )


def random_scores(reading: Reading) -> np.ndarray:
    """Uniform noise, seeded by the number of candidates."""
    count = len(reading.candidates)
    return np.random.default_rng(count).random(count, dtype=np.float32)


def popularity(reading: Reading) -> np.ndarray:
    """How many users read the candidate in the training split."""
    counts = np.asarray(reading.reads.sum(0)).ravel()
    popular: np.ndarray = counts[reading.candidates].astype(np.float32)
    return popular


def item_knn_rows(reading: Reading) -> Callable[[sparse.csr_matrix], np.ndarray]:
    """Item-kNN as a function of histories ``(n, all items)`` -> ``(n, len(reading.items))``."""
    counts = np.asarray(reading.reads.sum(0)).ravel()
    normal = reading.reads @ sparse.diags(1 / np.sqrt(np.maximum(counts, 1))).astype(np.float32)
    normal = normal.tocsc()
    similar = (normal.T @ normal[:, reading.items]).tocsr()  # (all items, candidates)

    def scores(histories: sparse.csr_matrix) -> np.ndarray:
        dense: np.ndarray = (histories @ similar).toarray()
        return dense

    return scores


def item_knn(reading: Reading) -> np.ndarray:
    """Mean cosine, over the history, between the readers of its items and the candidate's.

    Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001,
    section 3.1.1, on implicit feedback.
    """
    return reading.pair_scores(item_knn_rows(reading))


def text_cosine_rows(reading: Reading) -> Callable[[sparse.csr_matrix], np.ndarray]:
    """Text cosine as a function of histories ``(n, all items)`` -> ``(n, len(reading.items))``.

    Raises:
        DataError: the items have no text.
    """
    from legos.lm.text_vectors import text_vectors, unit_rows

    fields = reading.tables.text_fields
    if not fields:
        raise DataError(f"{reading.tables.folder}: the items have no text field to compare")
    texts = reading.tables.joined_texts(fields)
    folder = locate(reading.text_model).folder
    vectors = text_vectors(texts, folder, cache=reading.vectors_cache, normalise=True)
    shown = vectors[reading.items].T

    def scores(histories: sparse.csr_matrix) -> np.ndarray:
        dense: np.ndarray = unit_rows(histories @ vectors) @ shown
        return dense

    return scores


def text_cosine(reading: Reading) -> np.ndarray:
    """Cosine between a language model's vector of the candidate's text and the history's mean.

    Raises:
        DataError: the items have no text.
    """
    return reading.pair_scores(text_cosine_rows(reading))


def item_knn_text_cosine(reading: Reading) -> np.ndarray:
    """Sum of both methods' scores, each standardised within the impression."""
    total: np.ndarray = _standardise(item_knn(reading), reading)
    total += _standardise(text_cosine(reading), reading)
    return total


def oracle(reading: Reading) -> np.ndarray:
    """The probability by which a generator drew the click: the best reachable score."""
    if not reading.tables.has(reading.split, ORACLE):
        raise DataError(
            f"{reading.tables.folder}: split {reading.split!r} has no column {ORACLE!r}; only "
            "generated data know their best reachable score"
        )
    probabilities: np.ndarray = reading.tables.lists(reading.split, ORACLE).values.numpy()
    return probabilities.astype(np.float32)


BASELINES: dict[str, tuple[str, Scorer]] = {
    "random": ("random", random_scores),
    "popularity": ("popularity", popularity),
    "item_knn": ("item-kNN", item_knn),
    "text_cosine": ("text cosine", text_cosine),
    "item_knn_text_cosine": ("item-kNN + text cosine", item_knn_text_cosine),
    ORACLE: ("best reachable", oracle),
}
"""Per name of ``exp.baselines`` its title in tables and its scorer."""


def baseline_title(name: str) -> str:
    """What tables call a baseline; the name itself of one that a later version added."""
    return BASELINES[name][0] if name in BASELINES else name


def baseline_scores(name: str, reading: Reading) -> np.ndarray:
    """``(M,)`` float32 scores of a baseline, aligned with the candidates of the split.

    Raises:
        ConfigError: no baseline of that name.
    """
    if name not in BASELINES:
        raise ConfigError(f"unknown baseline {name!r}; {nearest(name, BASELINES)}")
    return BASELINES[name][1](reading)


def _standardise(scores: np.ndarray, reading: Reading) -> np.ndarray:
    count = np.maximum(np.diff(reading.offsets), 1)
    mean = np.bincount(reading.impressions, scores, len(count)) / count
    centred = scores - mean[reading.impressions]
    deviation = np.sqrt(np.bincount(reading.impressions, centred**2, len(count)) / count)
    scaled: np.ndarray = centred / np.where(deviation > 0, deviation, 1)[reading.impressions]
    return scaled.astype(np.float32)


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
