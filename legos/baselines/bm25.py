"""BM25 of an item's text, with the texts of the history as the query.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009, equation
3.15; a word's rarity is Lucene's ``log(1 + (N - n + .5) / (n + .5))``, which is never negative.
Each item of the history is a query; their scores are averaged. Words are runs of letters and
digits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import sparse

from legos.baselines.base import Arrays, HistoryBaseline, HistoryScores
from legos.baselines.data import FitData
from legos.errors import DataError
from legos.registry import BaselineConfig, baselines
from legos.settings import Fraction, NotNegative

_WORD = re.compile(r"\w+")
_COMMON = 0.02  # of the items: words that more of them have are multiplied as a dense matrix
_DENSE = 2**26  # its numbers at most: 256 MiB, however many items and long texts there are


class BM25Config(BaselineConfig):
    needs = frozenset({"texts"})
    knows_readers = False
    name: Literal["bm25"] = "bm25"
    k1: NotNegative = 1.2
    """How slowly repetitions of a word saturate."""
    b: Fraction = 0.75
    """How much long texts are discounted."""


@baselines.register(BM25Config)
class BM25(HistoryBaseline[BM25Config]):
    """Score items by the words they share with the history, weighted by rarity."""

    title = "BM25"

    def learn(self, data: FitData) -> Arrays:
        """Count the words of all items' texts.

        Raises:
            DataError: the items have no text.
        """
        fields = data.tables.text_fields
        if not fields:
            raise DataError(f"{data.tables.folder}: the items have no text field to compare")
        counts = word_counts(data.tables.joined_texts(fields))
        weights = bm25_weights(counts, self.settings.k1, self.settings.b)
        return {"counts": counts, "weights": weights[data.items]}

    def scorer(self, learned: Arrays) -> HistoryScores:
        """Return a scorer: sums over the words of a history."""
        counts, weights = learned["counts"], learned["weights"].T.tocsr()
        common = _common_words(counts, weights.shape[1])
        dense, rare = weights[common].toarray(), weights[~common]
        common_counts, rare_counts = counts[:, common], counts[:, ~common]

        def scores(histories: sparse.csr_matrix) -> np.ndarray:
            found: np.ndarray = ((histories @ rare_counts) @ rare).toarray()
            found += (histories @ common_counts).toarray() @ dense
            return found

        return scores


def _common_words(counts: sparse.csr_matrix, scored: int) -> np.ndarray:
    """``(words,)`` bool: the most common words, as many as fit into a dense matrix."""
    having = np.bincount(counts.indices, minlength=counts.shape[1])
    most = np.argsort(-having, kind="stable")[: _DENSE // max(scored, 1)]
    common = np.zeros(len(having), bool)
    common[most] = having[most] > _COMMON * counts.shape[0]
    return common


def word_counts(texts: Sequence[str]) -> sparse.csr_matrix:
    """``(items, words)`` float32 counts of each word in each text, in lower case."""
    numbers: dict[str, int] = {}
    rows = [
        [numbers.setdefault(word, len(numbers)) for word in _WORD.findall(text.lower())]
        for text in texts
    ]
    bounds = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    columns = np.fromiter((word for row in rows for word in row), np.int64, bounds[-1])
    ones = np.ones(len(columns), np.float32)
    counts = sparse.csr_matrix((ones, columns, bounds), shape=(len(texts), max(len(numbers), 1)))
    counts.sum_duplicates()
    return counts


def bm25_weights(counts: sparse.csr_matrix, k1: float, b: float) -> sparse.csr_matrix:
    """``(items, words)`` float32: contribution of a query's word to the score of an item."""
    items = counts.shape[0]
    having = np.bincount(counts.indices, minlength=counts.shape[1])
    rarity = np.log1p((items - having + 0.5) / (having + 0.5))
    lengths = np.asarray(counts.sum(1)).ravel()
    discount = 1 - b + b * lengths / max(lengths.mean(), 1e-12)
    owner = np.repeat(np.arange(items), np.diff(counts.indptr))
    values = counts.data * (k1 + 1) / (counts.data + k1 * discount[owner])
    values *= rarity[counts.indices]
    return sparse.csr_matrix(
        (values.astype(np.float32), counts.indices, counts.indptr), shape=counts.shape
    )
