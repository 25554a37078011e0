"""From scores to metrics: overall, cold and warm, beyond accuracy."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from legos.data.interactions import Interactions
from legos.metrics import grouped_metrics
from legos.run.assemble import Known, Workplace

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
        """What ``results.json`` keeps; a metric that is undefined on a subset is left out."""
        rows = {
            subset: {name: value for name, value in values.items() if math.isfinite(value)}
            for subset, values in self.rows.items()
        }
        return {"rows": rows, "counts": self.counts, "seconds": round(self.seconds, 3)}


def measure(
    place: Workplace, scored: Scored, interactions: Interactions, *, thorough: bool
) -> SplitResult:
    """Every metric of ``exp.evaluate.metrics`` and the one that early stopping watches.

    Args:
        place: configuration and what training has seen.
        scored: the split's scores.
        interactions: the split.
        thorough: cold and warm rows and the metrics beyond accuracy, too.

    Raises:
        DataError: a score is not finite.
    """
    begin = time.perf_counter()
    config = place.config.exp
    names = list(dict.fromkeys([*config.evaluate.metrics, config.train.metric]))
    users = interactions.users.cpu().numpy()
    by_user = place.config.data.group_by == "user"
    labels = interactions.labels.cpu().numpy()
    offsets = interactions.candidates.offsets.cpu().numpy()
    owner = np.repeat(np.arange(len(interactions)), np.diff(offsets))
    groups = users if by_user else None
    whole = grouped_metrics(scored.scores, labels, offsets, names, groups=groups)
    rows, counts = {ALL: dict(whole.values)}, {ALL: dict(whole.counts)}
    if thorough and config.evaluate.cold_warm:
        for subset, kept, impressions in _subsets(place.known, interactions, labels, owner):
            sizes = np.bincount(owner[kept], minlength=len(interactions))[impressions]
            part = grouped_metrics(
                scored.scores[kept],
                labels[kept],
                np.concatenate([[0], np.cumsum(sizes)]),
                names,
                groups=users[impressions] if by_user else None,
            )
            rows[subset], counts[subset] = dict(part.values), dict(part.counts)
    if thorough and config.evaluate.beyond_accuracy_k:
        rows[ALL] |= _beyond_accuracy(place, scored, interactions)
    seconds = scored.seconds + time.perf_counter() - begin
    return SplitResult(rows, counts, dict(whole.per_group), scored.scores, seconds)


def _subsets(
    known: Known, interactions: Interactions, labels: np.ndarray, owner: np.ndarray
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, rows ``(M,)`` bool and impressions ``(n,)`` bool of each subset that is not empty.

    ``owner`` is the impression of each row.

    A subset of items has the impressions with a click on such an item, without clicks on others;
    their negatives stay, whatever they are.
    """
    count, clicked = len(interactions), labels == 1
    item_known = known.items.cpu().numpy()[interactions.candidates.values.cpu().numpy()]
    user_known = known.users.cpu().numpy()[interactions.users.cpu().numpy()]
    for name, member in (("cold items", ~item_known), ("warm items", item_known)):
        impressions = np.bincount(owner[clicked & member], minlength=count) > 0
        if impressions.any():
            yield name, impressions[owner] & (~clicked | member), impressions
    for name, impressions in (("cold users", ~user_known), ("warm users", user_known)):
        if impressions.any():
            yield name, impressions[owner], impressions
