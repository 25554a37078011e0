"""Methods without training that every model is shown beside.

Each gives one score a candidate from what the training split knows and from the history of the
impression; none looks at the labels of the split it scores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from scipy import sparse
from torch import Tensor

from legos.config.schema import OF_TEXTS, RunConfig
from legos.data.ragged import Ragged
from legos.data.sampling import keyed_bits
from legos.data.tables import Tables
from legos.errors import ConfigError, DataError, nearest
from legos.evaluation.groups import write_groups
from legos.evaluation.measure import Scored, measure
from legos.evaluation.rank import Ranked, Ranking, rank, ranking_of
from legos.evaluation.texts import TextVectors, own_text_vectors, text_source, unit_words
from legos.home import home
from legos.lm.locate import locate, packaged
from legos.lm.settings import LanguageModelSource
from legos.runs.folder import Tracker
from legos.sharing import ALONE, Sharing
from legos.workplace.workplace import Workplace

_STATES_AT_ONCE = 512  # history states scored at once: 512 x distinct candidates floats
_TEXT_VECTORS = "cache/item-vectors"
ORACLE = "oracle"

HistoryScores = Callable[[sparse.csr_matrix], np.ndarray]
"""Histories ``(n, all items)`` -> scores ``(n, len(data.items))``."""
PageScores = Callable[[np.ndarray], np.ndarray]
"""Rows of ``data.histories`` ``(s,)`` -> scores ``(s, len(data.items))``."""


Known = Mapping[str, Mapping[str, Any]]
"""By split and baseline what was measured."""

Kept = Callable[[str], Path]
"""By split the folder of a measurement's arrays, ``RunFolder.diagnostics``."""


class BaselineData:
    """What a baseline may look at.

    Args:
        tables: the data set.
        split: the split to score.
        train: name of the training split.
        history_length: newest items of a history that scores are made from; who read what in
            the training split is counted from whole histories.
        text_model: language model of the text baselines; None: all-MiniLM-L6-v2.
        own_vectors: of the run itself, in place of that model's.
        catalogue: ``(items,)`` bool: score these items, not the candidates alone.
    """

    def __init__(
        self,
        tables: Tables,
        split: str,
        *,
        train: str = "train",
        history_length: int | None = None,
        text_model: LanguageModelSource | None = None,
        own_vectors: TextVectors | None = None,
        catalogue: np.ndarray | None = None,
    ) -> None:
        self.tables, self.split = tables, split
        self.text_model, self.own_vectors = text_model, own_vectors
        candidates = tables.lists(split, "candidates")
        histories = tables.lists("histories", "items")
        self.reads = self._train_reads(train, _counts(histories, tables.num_items))
        self.popularity = np.asarray(self.reads.sum(0)).ravel()
        if history_length is not None:
            histories = histories.tail(history_length)
        self.candidates = candidates.values.numpy().astype(np.int64)
        # a day shows few of all items, so scores are computed for these alone: items[columns[m]] is
        # candidate m
        self.items, self.columns = np.unique(self.candidates, return_inverse=True)
        if catalogue is not None:
            self.items = np.flatnonzero(catalogue)
            self.columns = np.searchsorted(self.items, self.candidates)
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

    def pair_scores(self, rows: HistoryScores) -> np.ndarray:
        """Score candidates by their impression's history state, a chunk of states at a time."""
        owner = self.state_of[self.impressions]
        order = np.argsort(owner, kind="stable")
        bounds = np.searchsorted(owner[order], np.arange(len(self.states) + 1))
        scores = np.empty(len(self.candidates), np.float32)
        for begin in range(0, len(self.states), _STATES_AT_ONCE):
            end = min(begin + _STATES_AT_ONCE, len(self.states))
            pairs = order[bounds[begin] : bounds[end]]
            dense = rows(self.histories[begin:end])
            scores[pairs] = dense[owner[pairs] - begin, self.columns[pairs]]
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


def _random(data: BaselineData) -> np.ndarray:
    """Uniform noise, seeded by the number of candidates."""
    count = len(data.candidates)
    return np.random.default_rng(count).random(count, dtype=np.float32)


def _popularity(data: BaselineData) -> np.ndarray:
    """How many users read the candidate in the training split."""
    popular: np.ndarray = data.popularity[data.candidates].astype(np.float32)
    return popular


def _item_knn(data: BaselineData) -> HistoryScores:
    """Mean cosine, over the history, between the users of its items and the candidate's.

    Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001,
    section 3.1.1, on implicit feedback.
    """
    scale = sparse.diags(1 / np.sqrt(np.maximum(data.popularity, 1))).astype(np.float32)
    normal = (data.reads @ scale).tocsc()
    similar = (normal.T @ normal[:, data.items]).tocsr()  # (all items, candidates)
    return lambda histories: (histories @ similar).toarray()


def _text_cosine(data: BaselineData) -> HistoryScores:
    """Cosine between the vector of the candidate's text and the mean of the history's.

    Raises:
        DataError: the items have no text.
    """
    from legos.lm.states import unit_rows

    own = data.own_vectors
    vectors = _item_vectors(data.tables, data.text_model) if own is None else own
    shown = vectors[data.items].T
    if isinstance(vectors, sparse.csr_matrix):
        return lambda histories: (unit_words(histories @ vectors) @ shown).toarray()
    return lambda histories: unit_rows(histories @ vectors) @ shown


def _item_vectors(
    tables: Tables, text_model: LanguageModelSource | None, sharing: Sharing = ALONE
) -> np.ndarray:
    """``(items, E)`` vectors of length 1 of all items' texts."""
    from legos.lm.states import text_vectors

    fields = tables.text_fields
    if not fields:
        raise DataError(f"{tables.folder}: the items have no text field to compare")
    folder = locate(text_model or packaged("minilm")).folder
    texts = tables.joined_texts(fields)
    return text_vectors(
        texts, folder, cache=home() / _TEXT_VECTORS, normalise=True, sharing=sharing
    )


def _item_knn_text_cosine(data: BaselineData) -> np.ndarray:
    """Sum of both methods' scores, each standardised within the impression."""
    total: np.ndarray = _standardise(data.pair_scores(_item_knn(data)), data)
    total += _standardise(data.pair_scores(_text_cosine(data)), data)
    return total


def _standardise(scores: np.ndarray, data: BaselineData) -> np.ndarray:
    count = np.maximum(np.diff(data.offsets), 1)
    mean = np.bincount(data.impressions, scores, len(count)) / count
    centred = scores - mean[data.impressions]
    deviation = np.sqrt(np.bincount(data.impressions, centred**2, len(count)) / count)
    scaled: np.ndarray = centred / np.where(deviation > 0, deviation, 1)[data.impressions]
    return scaled.astype(np.float32)


def _oracle(data: BaselineData) -> np.ndarray:
    """The probability by which a generator drew the click: the best reachable score."""
    if not data.tables.has(data.split, ORACLE):
        raise DataError(
            f"{data.tables.folder}: split {data.split!r} has no column {ORACLE!r}; only "
            "generated data know their best reachable score"
        )
    probabilities: np.ndarray = data.tables.lists(data.split, ORACLE).values.numpy()
    return probabilities.astype(np.float32)


BASELINES: dict[str, tuple[str, Callable[[BaselineData], np.ndarray]]] = {
    "random": ("random", _random),
    "popularity": ("popularity", _popularity),
    "item_knn": ("item-kNN", lambda data: data.pair_scores(_item_knn(data))),
    "text_cosine": ("text cosine", lambda data: data.pair_scores(_text_cosine(data))),
    "item_knn_text_cosine": ("item-kNN + text cosine", _item_knn_text_cosine),
    ORACLE: ("best reachable", _oracle),
}
"""Per name of ``exp.baselines`` its title in tables and its scores of the candidates ``(M,)``."""


def baseline_title(name: str) -> str:
    """What tables call a baseline; the name itself of one that a later version added."""
    return BASELINES[name][0] if name in BASELINES else name


def baseline_scores(name: str, data: BaselineData) -> np.ndarray:
    """``(M,)`` float32 scores of a baseline, aligned with the candidates of the split.

    Raises:
        ConfigError: no baseline of that name.
    """
    if name not in BASELINES:
        raise ConfigError(f"unknown baseline {name!r}; {nearest(name, BASELINES)}")
    return BASELINES[name][1](data)


def _random_pages(data: BaselineData) -> PageScores:
    """Uniform noise, named by history state and item."""
    return lambda rows: keyed_bits(torch.from_numpy(rows), len(data.items), 0).numpy() / 2.0**62


def _popularity_pages(data: BaselineData) -> PageScores:
    counts = data.popularity[data.items]
    return lambda rows: np.broadcast_to(counts, (len(rows), len(counts))).copy()


def _history_pages(
    scores_of: Callable[[BaselineData], HistoryScores], data: BaselineData
) -> PageScores:
    scores = scores_of(data)
    return lambda rows: scores(data.histories[rows])


def _item_knn_text_cosine_pages(data: BaselineData) -> PageScores:
    """Sum of both methods' scores, each standardised over all items."""
    parts = [_history_pages(method, data) for method in (_item_knn, _text_cosine)]

    def scores(rows: np.ndarray) -> np.ndarray:
        total = np.zeros((len(rows), len(data.items)))
        for part in parts:
            values = part(rows)
            deviation = values.std(1, keepdims=True)
            total += (values - values.mean(1, keepdims=True)) / np.where(
                deviation > 0, deviation, 1
            )
        return total

    return scores


PAGES: dict[str, Callable[[BaselineData], PageScores]] = {
    "random": _random_pages,
    "popularity": _popularity_pages,
    "item_knn": partial(_history_pages, _item_knn),
    "text_cosine": partial(_history_pages, _text_cosine),
    "item_knn_text_cosine": _item_knn_text_cosine_pages,
}
"""Per name of ``exp.baselines`` what scores a page of all items; all but the oracle."""


def rank_by_baseline(
    name: str, data: BaselineData, ranking: Ranking, *, page_size: int = 512, k: int | None = None
) -> Ranked:
    """Rank all items for every state of a split.

    Args:
        name: of the baseline.
        data: of the split, with a ``catalogue``.
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
    scores_of = PAGES[name](data)
    row_of = np.searchsorted(data.states, ranking.states.histories.cpu().numpy())
    device, items = ranking.owner.device, torch.from_numpy(data.items)

    def score(states: Tensor) -> Tensor:
        rows = row_of[states.cpu().numpy()]
        scores = torch.zeros(len(rows), ranking.offered.numel())
        scores[:, items] = torch.from_numpy(scores_of(rows)).float()
        return scores.to(device)

    ranked = rank(ranking, score, page_size=page_size, k=k)
    return replace(ranked, seconds=time.perf_counter() - begin)


def share_texts(
    config: RunConfig, tables: Tables, accelerator: Accelerator, known: Known, kept: Kept
) -> None:
    """Encode with all processes what the baselines of the first one will compare."""
    missing = missing_baselines(config, tables, known, kept)
    shared = accelerator.num_processes > 1 and missing & set(OF_TEXTS)
    if shared and text_source(config, tables) == "model":
        _item_vectors(tables, config.exp.evaluate.text_model, Sharing.between(accelerator))


def measure_baselines(
    workplace: Workplace, tracker: Tracker, known: dict[str, dict[str, Any]], kept: Kept
) -> None:
    """Score and measure the baselines of ``exp.baselines`` on every test split.

    Args:
        workplace: configuration and data.
        tracker: reports what is skipped.
        known: by split and baseline what ``SplitResult.summary()`` gave; filled here, nothing is
            computed twice.
        kept: where the metrics of every group go.
    """
    for split in workplace.config.data.splits.test:
        names = possible_baselines(workplace.config, workplace.tables, split)
        for name in workplace.config.exp.baselines:
            if name not in names:
                tracker.say(f"{split}: no {BASELINES[name][0]}, the data do not know it")
        missing = [name for name in names if _is_missing(name, split, known, kept)]
        found = _measured(workplace, split, missing, kept(split))
        known[split] = {**known.get(split, {}), **found}


def _measured(
    workplace: Workplace, split: str, names: Sequence[str], folder: Path
) -> dict[str, Any]:
    if not names:
        return {}
    config, interactions = workplace.config, workplace.split(split)
    evaluate = config.exp.evaluate
    ranks_all = evaluate.ranking == "all"
    data = BaselineData(
        workplace.tables,
        split,
        train=config.data.splits.train,
        history_length=config.data.history_length,
        text_model=evaluate.text_model,
        own_vectors=own_text_vectors(workplace) if set(names) & set(OF_TEXTS) else None,
        catalogue=workplace.tables.offered.numpy() if ranks_all else None,
    )
    ranking = ranking_of(workplace, interactions) if ranks_all else None
    results = {}
    for name in names:
        begin = time.perf_counter()
        if ranking is None:
            found: Scored | Ranked = Scored(
                baseline_scores(name, data), None, time.perf_counter() - begin
            )
        else:
            found = rank_by_baseline(
                name, data, ranking, page_size=evaluate.page_size, k=evaluate.beyond_accuracy_k
            )
        result = measure(workplace, found, interactions, thorough=True)
        write_groups(folder / name, result.groups)
        results[name] = result.summary()
    return results


def possible_baselines(config: RunConfig, tables: Tables, split: str) -> list[str]:
    """Those of ``exp.baselines`` that a split has the columns for.

    The oracle knows the candidates that were shown, and nothing of other items; a text baseline
    needs items with texts.
    """
    unknown = set() if tables.text_fields else set(OF_TEXTS)
    if config.exp.evaluate.ranking == "all" or not tables.has(split, ORACLE):
        unknown.add(ORACLE)
    return [name for name in config.exp.baselines if name not in unknown]


def missing_baselines(config: RunConfig, tables: Tables, known: Known, kept: Kept) -> set[str]:
    """What ``measure_baselines`` has to compute for some split."""
    return {
        name
        for split in config.data.splits.test
        for name in possible_baselines(config, tables, split)
        if _is_missing(name, split, known, kept)
    }


def _is_missing(name: str, split: str, known: Known, kept: Kept) -> bool:
    """Whether a baseline is not measured, or its groups are not on disk (earlier versions)."""
    return name not in known.get(split, {}) or not (kept(split) / name).is_dir()
