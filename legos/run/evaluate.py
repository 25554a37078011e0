"""Scoring a split and measuring the scores: overall, cold and warm, beyond accuracy."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from accelerate.utils import broadcast_object_list

from legos.config.schema import RunConfig
from legos.data.interactions import Interactions
from legos.metrics import grouped_metrics
from legos.recommender import Recommender
from legos.run.assemble import Workplace
from legos.run.score import score_split, score_split_directly
from legos.run.sharing import Sharing

ALL = "all"


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


def evaluate(
    place: Workplace, model: Recommender, interactions: Interactions, *, thorough: bool
) -> SplitResult:
    """Score and measure a labelled split; every process takes part and gets the same result.

    Args:
        place: configuration, processes, items.
        model: to score with.
        interactions: the split, on the model's device.
        thorough: cold and warm rows and the metrics beyond accuracy, too.

    Raises:
        DataError: a score is not finite or the split has no labels.
    """
    begin = time.perf_counter()
    config = place.config.exp.evaluate
    shared = Sharing.between(place.accelerator)
    if config.fast_eval:
        scored = score_split(
            model, place.store, interactions, page_size=config.page_size, sharing=shared
        )
        scores, vectors = scored.scores.numpy(), scored.item_vectors
    else:
        scores = score_split_directly(model, place.store, interactions).numpy()
        vectors = None
    result = None
    if place.accelerator.is_main_process:
        result = measure(place, scores, interactions, vectors, thorough=thorough)
        ...
    return broadcast_object_list([result])[0]
