"""The click probability that a generator used: the best reachable score."""

from __future__ import annotations

from typing import Literal

import numpy as np

from legos.baselines.base import ORACLE, Baseline, PageScores
from legos.baselines.data import BaselineData
from legos.errors import ConfigError, DataError
from legos.registry import BaselineConfig, baselines


class OracleConfig(BaselineConfig):
    needs = frozenset({"oracle"})
    knows_readers = False
    name: Literal["oracle"] = "oracle"


@baselines.register(OracleConfig)
class Oracle(Baseline[OracleConfig]):
    """Scores shown candidates by the generator's probabilities; knows nothing of other items."""

    title = "best reachable"

    def pair_scores(self, data: BaselineData) -> np.ndarray:
        """The generator's probabilities.

        Raises:
            DataError: the data were not generated.
        """
        if not data.tables.has(data.split, ORACLE):
            raise DataError(
                f"{data.tables.folder}: split {data.split!r} has no column {ORACLE!r}; only "
                "generated data know their best reachable score"
            )
        probabilities: np.ndarray = data.tables.lists(data.split, ORACLE).values.numpy()
        return probabilities.astype(np.float32)

    def page_scores(self, data: BaselineData) -> PageScores:
        """Raise an error: all items cannot be scored."""
        raise ConfigError(f"no baseline {ORACLE!r} over all items: it knows those shown alone")
