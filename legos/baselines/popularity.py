"""How many users read an item in the training split."""

from __future__ import annotations

from typing import Literal

import numpy as np

from legos.baselines.base import HistoryBaseline, HistoryScores
from legos.baselines.data import FitData
from legos.registry import BaselineConfig, baselines


class PopularityConfig(BaselineConfig):
    knows_readers = False
    name: Literal["popularity"] = "popularity"


@baselines.register(PopularityConfig)
class Popularity(HistoryBaseline[PopularityConfig]):
    """The same list for everybody; each reader counts once."""

    title = "popularity"

    def fit(self, data: FitData) -> HistoryScores:
        """Count readers."""
        return same_for_all(data.popularity[data.items])


def same_for_all(scores: np.ndarray) -> HistoryScores:
    """Scores ``(items,)`` that no history changes."""
    return lambda histories: np.broadcast_to(scores, (histories.shape[0], len(scores))).copy()
