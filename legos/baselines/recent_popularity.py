"""The number of training clicks of an item, in which older clicks count less.

Ji, Sun, Zhang, Li, "A Re-visit of the Popularity Baseline in Recommender Systems", SIGIR 2020, with
an exponential decay in place of a window.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from legos.baselines.base import Arrays, HistoryBaseline, HistoryScores
from legos.baselines.data import FitData
from legos.baselines.popularity import same_for_all
from legos.errors import DataError
from legos.registry import BaselineConfig, baselines
from legos.settings import Positive

_DAY = 86_400  # seconds


class RecentPopularityConfig(BaselineConfig):
    needs = frozenset({"times"})
    knows_readers = False
    name: Literal["recent_popularity"] = "recent_popularity"
    half_life: Positive = 30.0
    """Days before the last click of the training split at which a click counts half."""


@baselines.register(RecentPopularityConfig)
class RecentPopularity(HistoryBaseline[RecentPopularityConfig]):
    """Decayed popularity, the same list for everybody; histories have no times and do not count."""

    title = "recent popularity"
    reads_histories = False

    def learn(self, data: FitData) -> Arrays:
        """Sum decayed clicks of known time.

        Raises:
            DataError: no click has one.
        """
        tables, train = data.tables, data.train
        shown = tables.lists(train, "candidates")
        times = tables.scalar(train, "time").numpy()[shown.rows.numpy()]
        counted = (tables.lists(train, "labels").values.numpy() == 1) & (times >= 0)
        if not counted.any():
            raise DataError(f"{tables.folder}: no click of split {train!r} has a time")
        age = (times[counted].max() - times[counted]) / (_DAY * self.settings.half_life)
        clicks = shown.values.numpy()[counted]
        weight = np.bincount(clicks, 0.5**age, tables.num_items)
        return {"popularity": weight[data.items].astype(np.float32)}

    def scorer(self, learned: Arrays) -> HistoryScores:
        """Return a scorer by these weights."""
        return same_for_all(learned["popularity"])
