"""How many users read an item in the training split."""

from __future__ import annotations

from typing import Literal

import numpy as np

from legos.baselines.base import Arrays, HistoryBaseline, HistoryScores
from legos.baselines.data import FitData
from legos.registry import BaselineConfig, baselines


class PopularityConfig(BaselineConfig):
    knows_readers = False
    name: Literal["popularity"] = "popularity"


@baselines.register(PopularityConfig)
class Popularity(HistoryBaseline[PopularityConfig]):
    """The number of readers of an item; the same list for everybody."""

    title = "popularity"
    reads_histories = False

    def learn(self, data: FitData) -> Arrays:
        """Count readers."""
        return {"popularity": data.popularity[data.items]}

    def scorer(self, learned: Arrays) -> HistoryScores:
        """Return a scorer by these counts."""
        return same_for_all(learned["popularity"])


def same_for_all(scores: np.ndarray) -> HistoryScores:
    """Return a scorer that gives every history the same scores ``(items,)``."""
    return lambda histories: np.broadcast_to(scores, (histories.shape[0], len(scores))).copy()
