"""RP3beta: random walks from the history's items over their readers, popularity discounted.

Paudel, Christoffel, Newell, Bernstein, "Updatable, Accurate, Diverse, and Scalable Recommendations
for Interactive Applications", ACM TiiS 2017, section 3.3; the transition probabilities to the power
of alpha as in P3alpha (Cooper et al., WWW 2014).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import sparse

from legos.baselines.base import Arrays, HistoryBaseline, HistoryScores
from legos.baselines.data import FitData
from legos.baselines.neighbours import strongest_others
from legos.registry import BaselineConfig, baselines
from legos.settings import Count, NotNegative


class RP3BetaConfig(BaselineConfig):
    name: Literal["rp3beta"] = "rp3beta"
    alpha: NotNegative = 0.3
    """Power of the probability of a step; this and beta are Beauty's best on its valid split."""
    beta: NotNegative = 0.2
    """Power of an item's number of readers that its score is divided by."""
    k: Count = 200
    """Items that a walk from an item may end at: the most probable after the division."""


@baselines.register(RP3BetaConfig)
class RP3Beta(HistoryBaseline[RP3BetaConfig]):
    """RP3beta with a sparse matrix of steps from item to reader to item."""

    title = "RP3beta"

    def learn(self, data: FitData) -> Arrays:
        """Compute the steps from every item."""
        alpha, reads = self.settings.alpha, data.reads
        to_reader = (_powered(data.popularity, -alpha) @ reads.T).tocsr()
        to_item = _powered(np.diff(reads.indptr), -alpha) @ reads
        to_item = (to_item @ _powered(data.popularity, -self.settings.beta)).tocsr()

        steps = strongest_others(to_reader, to_item, self.settings.k)[:, data.items]
        return {"steps": steps.tocsr()}  # (all items, items)

    def scorer(self, learned: Arrays) -> HistoryScores:
        """Return a scorer: the probability that walks from a history's items end at an item."""
        steps = learned["steps"]
        return lambda histories: (histories @ steps).toarray()


def _powered(counts: np.ndarray, power: float) -> sparse.dia_matrix:
    """A diagonal of counts to a power; nobody's is 0."""
    values = np.where(counts > 0, np.maximum(counts, 1.0) ** power, 0.0)
    return sparse.diags(values.astype(np.float32))
