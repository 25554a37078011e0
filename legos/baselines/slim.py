"""SLIM: sparse non-negative weights between items that best reconstruct the reads.

Ning and Karypis, "SLIM: Sparse Linear Methods for Top-N Recommender Systems", ICDM 2011, equation
3: a column w minimises ``|a - A w|^2 / 2 + l2 |w|^2 / 2 + l1 sum(w)`` with w >= 0 and no weight to
the item itself, by coordinate descent over A'A. Without a bound on the neighbours this is exact:
where all weights are at least 0, an item without a common user never has one above 0. With a bound
it is the paper's fsSLIM, by the cosine of users.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from legos.baselines.base import Arrays, HistoryBaseline, HistoryScores, MatrixConfig
from legos.baselines.data import FitData
from legos.baselines.ease import weighted_sums
from legos.baselines.local_systems import LocalSystems, local_weights, nearest
from legos.baselines.neighbours import product_bytes
from legos.registry import baselines
from legos.settings import Count, NotNegative, Positive


class SLIMConfig(MatrixConfig):
    name: Literal["slim"] = "slim"
    l1: NotNegative = 1.0
    """Weight of the sum of weights, in users: what fewer users speak for is 0."""
    l2: Positive = 50.0
    """Weight of the squared weights."""
    neighbours: Count | None = 100
    """Nearest items, by the cosine of their users, that an item has weights for; null: all that
    have a user in common."""
    sweeps: Count = 100
    """Over all weights of an item, at most."""
    tolerance: Positive = 1e-4
    """A sweep that changes no weight by more is the last one."""


@baselines.register(SLIMConfig)
class SLIM(HistoryBaseline[SLIMConfig]):
    """Weights between the items that were read in training; others score 0."""

    title = "SLIM"

    def learn(self, data: FitData) -> Arrays:
        """Fit the weights of every item by coordinate descent.

        Raises:
            OutOfMemory: without ``neighbours`` the matrix may not fit.
        """
        settings = self.settings
        known = np.flatnonzero(data.popularity)
        reads = data.reads[:, known].tocsr()
        if settings.neighbours is None:
            what = f"numbers of common users of {len(known):,} x {len(known):,} items"
            settings.refuse_larger(product_bytes(reads, len(known)), what, "neighbours: 100")
        near = nearest(reads, settings.neighbours)
        weights = local_weights(reads, near, self.descend)
        weights.eliminate_zeros()
        return {"weights": weights, "known": known, "items": data.items}

    def scorer(self, learned: Arrays) -> HistoryScores:
        """Return a scorer: sums of weights."""
        return weighted_sums(learned["weights"], learned["known"], learned["items"])

    def descend(self, systems: LocalSystems) -> np.ndarray:
        """Weights ``(n, k)`` float32 of each item's neighbours, those of padding 0."""
        settings, (products, right) = self.settings, systems
        places = np.arange(right.shape[1])
        own = products[:, places, places]
        weights, rest = np.zeros_like(right), right - np.float32(settings.l1)
        for _ in range(settings.sweeps):
            largest = 0.0
            for place in places:
                of_place = own[:, place]
                best = rest[:, place] + of_place * weights[:, place]
                best = np.maximum(best, 0) / (of_place + np.float32(settings.l2))
                change = best - weights[:, place]
                weights[:, place] = best
                rest -= products[:, place] * change[:, None]
                largest = max(largest, float(np.abs(change).max()))
            if largest <= settings.tolerance:
                break
        return weights
