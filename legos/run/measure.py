"""From scores to metrics: overall, cold and warm, beyond accuracy."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from legos.data.interactions import Interactions
from legos.metrics import grouped_metrics
from legos.run.assemble import Workplace

ALL = "all"


@dataclass(frozen=True)
class Scored:
    """A split with its scores.

    Attributes:
        scores: ``(M,)`` float32, aligned with ``candidates.values``.
        item_vectors: ``(items, D)`` where the method has such vectors.
        seconds: it took.
    """

    scores: np.ndarray = field(repr=False)
    item_vectors: Tensor | None = field(repr=False)
    seconds: float


@dataclass(frozen=True)
class SplitResult:
    """What a method reaches on one split.

    Attributes:
        rows: metrics by subset: "all", then "cold items", "warm users", ...
        counts: number of groups, rows, one-class and empty groups of each subset.
        groups: per metric its value in every group of "all", NaN where undefined.
        scores: ``(M,)`` float32.
        seconds: to score and to measure.
    """

    rows: dict[str, dict[str, float]]
    counts: dict[str, dict[str, int]]
    groups: dict[str, np.ndarray] = field(repr=False)
    scores: np.ndarray = field(repr=False)
    seconds: float

    def summary(self) -> dict[str, Any]:
        """What ``results.json`` keeps."""
        return {"rows": self.rows, "counts": self.counts, "seconds": round(self.seconds, 3)}
