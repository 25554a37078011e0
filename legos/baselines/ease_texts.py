"""EASE over reads and text vectors together: text dimensions act as weighted users.

Jeunen, Van Balen, Goethals, "Closed-Form Models for Collaborative Filtering with Side-Information",
RecSys 2020, section 3.1 (CEASE): X is stacked on the transposed item vectors F, so
``X'X + text_weight F F'`` takes the place of X'X. Here F are a sentence encoder's unit vectors, not
tags, so items that nobody read are scored too.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import sparse

from legos.baselines.base import Arrays, HistoryBaseline, HistoryScores, MatrixConfig
from legos.baselines.data import FitData
from legos.baselines.ease import closed_form, gram, weighted_sums
from legos.baselines.neighbours import pages
from legos.baselines.text_cosine import text_vectors_of
from legos.registry import baselines
from legos.settings import Positive


class EASETextsConfig(MatrixConfig):
    needs = frozenset({"texts", "text_vectors"})
    name: Literal["ease_texts"] = "ease_texts"
    l2: Positive = 100.0
    """Weight of the squared weights between items."""
    text_weight: Positive = 10.0
    """Of the cosines of texts beside the numbers of common users."""


@baselines.register(EASETextsConfig)
class EASETexts(HistoryBaseline[EASETextsConfig]):
    """Weights between all items, including those that nobody read."""

    title = "EASE with texts"

    def learn(self, data: FitData) -> Arrays:
        """Solve for the weights.

        Raises:
            DataError: the items have no text.
            OutOfMemory: the matrix does not fit.
        """
        settings, count = self.settings, data.reads.shape[1]
        what = f"a matrix of {count:,} x {count:,} items"
        settings.refuse_larger(4 * count**2, what, "baseline {name: ease, neighbours: 100} instead")
        vectors = text_vectors_of(data)
        product = gram(data.reads)
        for part in pages(count):
            cosines = vectors[part] @ vectors.T
            dense = cosines.toarray() if sparse.issparse(cosines) else cosines
            product[part] += np.float32(settings.text_weight) * dense
        return {"weights": closed_form(product, settings.l2), "items": data.items}

    def scorer(self, learned: Arrays) -> HistoryScores:
        """Sums of weights."""
        weights = learned["weights"]
        return weighted_sums(weights, np.arange(len(weights)), learned["items"])
