"""Input of baselines: reads of the training split, and the states to score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from legos.data.ragged import Ragged
from legos.data.tables import Tables
from legos.lm.settings import LanguageModelSource

_STATES_AT_ONCE = 512  # history states scored at once: 512 x distinct candidates floats


class FitData:
    """The data that a baseline is fitted to.

    Args:
        tables: the data set.
        train: name of the training split.
        items: ``(n,)`` int64, ascending: the items to score; None: all.
        text_model: language model of the text baselines; None: all-MiniLM-L6-v2.
        own_vectors: of the run itself, in place of that model's.

    Attributes:
        reads: ``(users, items)`` float32, 1 where a user clicked or had read an item by the
            training split.
        popularity: ``(items,)`` float32 number of users that read each.
    """

    def __init__(
        self,
        tables: Tables,
        *,
        train: str = "train",
        items: np.ndarray | None = None,
        text_model: LanguageModelSource | None = None,
        own_vectors: Any = None,
    ) -> None:
        self.tables, self.train = tables, train
        self.text_model, self.own_vectors = text_model, own_vectors
        self.items = np.arange(tables.num_items) if items is None else items
        self.reads = _train_reads(tables, train)
        self.popularity = np.asarray(self.reads.sum(0)).ravel()


class BaselineData(FitData):
    """The data that a baseline is fitted to, with a split to score.

    Args:
        tables: the data set.
        split: the split to score.
        train: name of the training split.
        history_length: newest items of a history that scores are made from; who read what in
            the training split is counted from whole histories.
        text_model: language model of the text baselines; None: all-MiniLM-L6-v2.
        own_vectors: of the run itself, in place of that model's.
        catalogue: ``(items,)`` bool: score these items, not the candidates alone.

    Attributes:
        candidates: ``(M,)`` int64 items shown.
        columns: ``(M,)`` place of each in ``items``.
        impressions: ``(M,)`` impression of each.
        offsets: ``(impressions + 1,)`` where each begins among the candidates.
        states: ``(s,)`` distinct history states of the split, ascending.
        state_of: ``(impressions,)`` place in ``states``.
        histories: ``(s, items)`` float32 share of each item in a state's history.
    """

    def __init__(
        self,
        tables: Tables,
        split: str,
        *,
        train: str = "train",
        history_length: int | None = None,
        text_model: LanguageModelSource | None = None,
        own_vectors: Any = None,
        catalogue: np.ndarray | None = None,
    ) -> None:
        candidates = tables.lists(split, "candidates")
        self.candidates = candidates.values.numpy().astype(np.int64)
        # a day shows few of all items, so scores are computed for these alone
        items = np.unique(self.candidates) if catalogue is None else np.flatnonzero(catalogue)
        super().__init__(
            tables, train=train, items=items, text_model=text_model, own_vectors=own_vectors
        )
        self.split = split
        self.columns = np.searchsorted(self.items, self.candidates)
        self.impressions = candidates.rows.numpy()
        self.offsets = candidates.offsets.numpy()
        self.states, self.state_of = np.unique(
            tables.scalar(split, "history").numpy(), return_inverse=True
        )
        histories = tables.lists("histories", "items")
        if history_length is not None:
            histories = histories.tail(history_length)
        self.histories = shares(histories, tables.num_items)[self.states]

    def pair_scores(self, rows: Callable[[sparse.csr_matrix], np.ndarray]) -> np.ndarray:
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


def shares(histories: Ragged, num_items: int) -> sparse.csr_matrix:
    """``(states, items)`` float32 share of each item in each history; an empty one is all 0."""
    counts = _counts(histories, num_items)
    totals = np.maximum(np.asarray(counts.sum(1)).ravel(), 1)
    return sparse.diags(1 / totals).dot(counts).tocsr().astype(np.float32)


def unit_words(rows: sparse.csr_matrix) -> sparse.csr_matrix:
    """Scale rows to length 1; rows of zeros stay."""
    norms = np.sqrt(np.asarray(rows.multiply(rows).sum(1)).ravel())
    return (sparse.diags(1 / np.where(norms > 0, norms, 1)) @ rows).tocsr()


def _train_reads(tables: Tables, train: str) -> sparse.csr_matrix:
    """``(users, items)`` 1 where a user clicked or had read an item by the training split."""
    histories = _counts(tables.lists("histories", "items"), tables.num_items)
    shown = tables.lists(train, "candidates")
    clicked = tables.lists(train, "labels").values.numpy() == 1
    users = tables.scalar(train, "user_id").numpy().astype(np.int64)
    history = histories[tables.scalar(train, "history").numpy()].tocoo()
    rows = np.concatenate([users[shown.rows.numpy()[clicked]], users[history.row]])
    columns = np.concatenate([shown.values.numpy()[clicked], history.col])
    reads = sparse.csr_matrix(
        (np.ones(len(rows), np.float32), (rows, columns)),
        shape=(tables.num_users, tables.num_items),
    )
    reads.data[:] = 1.0
    return reads


def _counts(histories: Ragged, num_items: int) -> sparse.csr_matrix:
    """``(states, items)`` counts of each item in each history."""
    return sparse.csr_matrix(
        (
            np.ones(histories.values.numel(), np.float32),
            histories.values.numpy().astype(np.int64),
            histories.offsets.numpy(),
        ),
        shape=(len(histories), num_items),
    )
