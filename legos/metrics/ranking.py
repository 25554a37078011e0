"""Ranking metrics over groups (impressions or users), all groups at once.

Ties are never broken by the order of the rows. Every metric takes its expected value over random
orders of equal scores, which is sklearn's definition of AUC (mid-ranks) and of nDCG (gains averaged
over ties); LRAP counts the worst rank of a tie, as sklearn does.

"MRR" has three published meanings, kept apart here: ``MRR`` is one over the rank of the first
positive (Voorhees, TREC-8, 1999); ``MRR-all`` is the mean of one over the rank of every positive
(the MIND leaderboard's evaluation script); ``LRAP`` is the label ranking average precision
(Schapire and Singer, 2000), which ONCE's code printed as MRR.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from legos.data.ragged import aranges
from legos.errors import DataError, Diverged
from legos.metrics.names import Metric, parse_metric


@dataclass(frozen=True)
class GroupedMetrics:
    """Metrics of one set of scores.

    Attributes:
        values: by name; a grouped metric is the mean over the groups where it is defined, NaN when
            there is none.
        per_group: by name of a grouped metric ``(G,)`` float64, NaN where undefined.
        counts: ``groups``, ``rows``, ``empty`` groups, groups of ``one_class`` (no AUC; empty ones
            are not among them) and groups with ``no_positive`` (no other metric).
    """

    values: dict[str, float]
    per_group: dict[str, np.ndarray] = field(repr=False)
    counts: dict[str, int]


def grouped_metrics(
    scores: np.ndarray,
    labels: np.ndarray,
    offsets: np.ndarray,
    names: Sequence[str],
    *,
    groups: np.ndarray | None = None,
) -> GroupedMetrics:
    """Compute metrics of scores.

    Args:
        scores: ``(M,)`` float, higher = ranked first.
        labels: ``(M,)`` 1 = positive, 0 = negative.
        offsets: ``(n + 1,)`` int64; impression i is rows ``offsets[i]:offsets[i + 1]``.
        names: metrics, see :func:`legos.metrics.parse_metric`.
        groups: ``(n,)`` the group of each impression, for example its user; every impression is a
            group when not given. Groups come out in ascending order of their ids.

    Raises:
        ConfigError: a name is unknown.
        DataError: lengths differ, offsets do not ascend from 0, a label is neither 0 nor 1, or a
            score is not finite.
    """
    metrics = [parse_metric(name) for name in names]
    scores, labels, offsets = np.asarray(scores), np.asarray(labels), np.asarray(offsets)
    _check(scores, labels, offsets)
    if groups is not None:
        scores, labels, offsets = _regroup(scores, labels, offsets, np.asarray(groups))
    sizes = np.diff(offsets)
    positives = locate_positives(scores, labels, offsets)
    clicks = np.bincount(positives.group, minlength=len(sizes))
    values: dict[str, float] = {}
    per_group: dict[str, np.ndarray] = {}
    for metric in metrics:
        if metric.kind in ("AUC", "LogLoss"):
            values[metric.name] = (auc if metric.kind == "AUC" else log_loss)(scores, labels)
            continue
        result = of_groups(metric, positives, clicks, sizes)
        per_group[metric.name] = result
        values[metric.name] = mean_where_defined(result)
    counts = {
        "groups": len(sizes),
        "rows": len(scores),
        "empty": int((sizes == 0).sum()),
        "one_class": int(((sizes > 0) & ((clicks == 0) | (clicks == sizes))).sum()),
        "no_positive": int((clicks == 0).sum()),
    }
    return GroupedMetrics(values, per_group, counts)


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve over all rows, ties counted half; NaN when one class is missing."""
    positive = labels == 1
    negatives, wanted = np.sort(scores[~positive]), scores[positive]
    if not len(negatives) or not len(wanted):
        return float("nan")
    below = np.searchsorted(negatives, wanted, side="left").sum(dtype=np.float64)
    up_to = np.searchsorted(negatives, wanted, side="right").sum(dtype=np.float64)
    return float((below + up_to) / 2 / len(negatives) / len(wanted))


def log_loss(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean binary cross-entropy of the scores as logits; NaN without rows."""
    if not len(scores):
        return float("nan")
    logits = scores.astype(np.float64)
    losses = np.maximum(logits, 0) - logits * labels + np.log1p(np.exp(-np.abs(logits)))
    return float(losses.mean())


def mean_where_defined(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN if all are."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def of_groups(
    metric: Metric,
    found: Positives,
    clicks: np.ndarray,
    sizes: np.ndarray,
    *,
    capped_recall: bool = False,
) -> np.ndarray:
    """Compute one metric in every group from the places of its positives.

    Args:
        metric: neither AUC over all rows nor LogLoss.
        found: the positives of all groups; for metrics at k those beyond k may be missing.
        clicks: ``(G,)`` positives of each group.
        sizes: ``(G,)`` candidates of each group.
        capped_recall: divide ``Recall@k`` by ``min(k, clicks)``, the most that a list can hold.

    Returns:
        ``(G,)`` float64, NaN where it is undefined.
    """
    if metric.parts:
        terms = [
            of_groups(part, found, clicks, sizes, capped_recall=capped_recall)
            for part in metric.parts
        ]
        total: np.ndarray = np.sum(terms, axis=0)
        return total
    longest = int(sizes.max(initial=0))
    k = longest if metric.k is None else min(metric.k, longest)
    if metric.kind in ("MRR", "HR"):
        return _of_first_positive(found, clicks, k, hits=metric.kind == "HR")
    below_top = np.clip(k - found.above, 0, found.equal)  # places of its tie within the first k
    if metric.kind == "GAUC":
        negatives = (sizes - clicks)[found.group]
        beaten = negatives - (found.above - found.positives_above)
        gain = beaten - (found.equal - found.positives_equal) / 2
        ideal = (clicks * (sizes - clicks)).astype(np.float64)
    elif metric.kind == "MRR-all":
        gain = _share(_cumulative(1 / np.arange(1, longest + 1)), found, found.equal)
        ideal = clicks.astype(np.float64)
    elif metric.kind == "LRAP":
        gain = (found.positives_above + found.positives_equal) / (found.above + found.equal)
        ideal = clicks.astype(np.float64)
    elif metric.kind == "Recall":
        most = np.minimum(clicks, metric.k or longest) if capped_recall else clicks
        gain, ideal = below_top / found.equal, most.astype(np.float64)
    else:  # nDCG: Järvelin and Kekäläinen, 2002, with binary gains
        discounts = _cumulative(1 / np.log2(np.arange(2, longest + 2)))
        gain = _share(discounts, found, below_top)
        ideal = discounts[np.minimum(clicks, k)]
    total = np.bincount(found.group, gain, len(clicks))
    result = np.full(len(clicks), np.nan)
    np.divide(total, ideal, out=result, where=ideal > 0)
    return result


def _cumulative(weights: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], weights.cumsum()])


def _share(cumulative: np.ndarray, found: Positives, places: np.ndarray) -> np.ndarray:
    """Mean weight of the ranks a tied positive may take; only its first ``places`` ranks count."""
    shared: np.ndarray = (cumulative[found.above + places] - cumulative[found.above]) / found.equal
    return shared


def _of_first_positive(found: Positives, clicks: np.ndarray, k: int, *, hits: bool) -> np.ndarray:
    """``(G,)`` HR at k, or else the reciprocal rank of the first positive.

    A click without a place stands beyond k: no hit, and an unknown reciprocal rank.
    """
    result = np.where((clicks > 0) & hits, 0.0, np.nan)
    first = np.flatnonzero(found.positives_above == 0)
    first = first[np.unique(found.group[first], return_index=True)[1]]
    reciprocal, hit = _first_hit(
        found.above[first], found.equal[first], found.positives_equal[first], k
    )
    result[found.group[first]] = hit if hits else reciprocal
    return result


def _first_hit(
    above: np.ndarray, tied: np.ndarray, positives: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Expected one over the rank of the first positive, and the chance that it is within k.

    In a random order of ``tied`` candidates, ``positives`` of them positive, the first positive
    stands at offset j with probability positives / (tied - j) if none stood before.
    """
    hit = np.clip(k - above, 0, tied) / tied  # one positive: any place of the tie, equally likely
    reciprocal = np.zeros(len(above))
    if not len(above):
        return reciprocal, hit
    harmonic = _cumulative(1 / np.arange(1, int((above + tied).max()) + 1))
    reciprocal[:] = (harmonic[above + tied] - harmonic[above]) / tied
    open_ones = np.flatnonzero(positives > 1)
    reciprocal[open_ones], hit[open_ones] = 0, 0
    missing = np.ones(len(above))  # chance that no positive stood so far
    offset = 0
    while len(open_ones):
        rank = above[open_ones] + offset + 1
        here = missing[open_ones] * positives[open_ones] / (tied[open_ones] - offset)
        reciprocal[open_ones] += here / rank
        hit[open_ones] += here * (rank <= k)
        missing[open_ones] -= here
        offset += 1
        open_ones = open_ones[offset <= (tied - positives)[open_ones]]
    return reciprocal, hit


def _regroup(
    scores: np.ndarray, labels: np.ndarray, offsets: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort rows so that the impressions of a group are consecutive."""
    if len(groups) != len(offsets) - 1:
        raise DataError(f"{len(groups)} group ids for {len(offsets) - 1} impressions")
    order = np.argsort(groups, kind="stable")
    rows = aranges(offsets[:-1][order], np.diff(offsets)[order])
    ids = groups[order]
    begins = np.ones(len(ids), dtype=bool)
    begins[1:] = ids[1:] != ids[:-1]
    first = np.flatnonzero(begins)
    offsets = np.append(rows.offsets[first], len(scores))
    return scores[rows.values], labels[rows.values], offsets


def _check(scores: np.ndarray, labels: np.ndarray, offsets: np.ndarray) -> None:
    if offsets.ndim != 1 or not len(offsets) or offsets[0] != 0 or (np.diff(offsets) < 0).any():
        raise DataError("offsets must be one-dimensional, begin with 0 and never decrease")
    rows = int(offsets[-1])
    if scores.shape != labels.shape or scores.ndim != 1 or rows != len(scores):
        raise DataError(
            f"scores {scores.shape}, labels {labels.shape} and offsets up to {rows} do not match"
        )
    wrong = np.flatnonzero((labels != 0) & (labels != 1))
    if len(wrong):
        raise DataError(
            f"row {wrong[0]} has label {labels[wrong[0]]}, expected 0 or 1; an unlabelled split "
            "cannot be measured"
        )
    broken = np.flatnonzero(~np.isfinite(scores))
    if len(broken):
        group = int(np.searchsorted(offsets, broken[0], side="right")) - 1
        raise Diverged(
            f"{len(broken)} of {len(scores)} scores are not finite, the first in group {group} "
            f"(row {broken[0]}: {scores[broken[0]]})"
        )


_PAIRS_AT_ONCE = 2_000_000  # compared at once: about 100 MB of temporaries
# a group is sorted instead when that is cheaper: about 20 µs and 10 ns a row, a pair takes 3 ns
_MANY_POSITIVES, _MANY_PAIRS = 8, 8_192


@dataclass(frozen=True)
class Positives:
    """P positives and their places, in the order of the rows.

    Attributes:
        group: ``(P,)`` int64.
        above: ``(P,)`` int64 candidates of the group with a higher score.
        equal: ``(P,)`` int64 candidates with the same score, itself included.
        positives_above: ``(P,)`` int64 positives with a higher score.
        positives_equal: ``(P,)`` int64 positives with the same score, itself included.
    """

    group: np.ndarray
    above: np.ndarray
    equal: np.ndarray
    positives_above: np.ndarray
    positives_equal: np.ndarray


def locate_positives(scores: np.ndarray, labels: np.ndarray, offsets: np.ndarray) -> Positives:
    """Count, for every positive, the scores above it and equal to it.

    Args:
        scores: ``(M,)`` float, finite.
        labels: ``(M,)`` 0 or 1.
        offsets: ``(G + 1,)`` int64; group g is rows ``offsets[g]:offsets[g + 1]``.
    """
    rows = np.flatnonzero(labels)
    group = np.searchsorted(offsets, rows, side="right") - 1
    # the positives alone, grouped the same way, are compared with themselves
    own_offsets = np.searchsorted(rows, offsets)
    own = scores[rows]
    above, equal = compare_in_groups(own, group, scores, offsets)
    positives_above, positives_equal = compare_in_groups(own, group, own, own_offsets)
    return Positives(group, above, equal, positives_above, positives_equal)


def compare_in_groups(
    values: np.ndarray, group: np.ndarray, scores: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Count, for each value, the scores of its group that are above it and equal to it.

    Args:
        values: ``(P,)`` float.
        group: ``(P,)`` int64 ascending group of each.
        scores: ``(M,)`` float.
        offsets: ``(G + 1,)`` int64; group g is rows ``offsets[g]:offsets[g + 1]``.

    Returns:
        ``(P,)`` int64 above and ``(P,)`` int64 equal.
    """
    sizes = np.diff(offsets)[group]
    above, equal = np.zeros(len(values), np.int64), np.zeros(len(values), np.int64)
    wanted = np.bincount(group, minlength=len(offsets) - 1)
    many = (wanted > _MANY_POSITIVES) & (wanted * np.diff(offsets) > _MANY_PAIRS)
    for crowded in np.flatnonzero(many):
        ordered = np.sort(scores[offsets[crowded] : offsets[crowded + 1]])
        place = slice(*np.searchsorted(group, (crowded, crowded + 1)))  # group ascends
        right = np.searchsorted(ordered, values[place], side="right")
        above[place] = len(ordered) - right
        equal[place] = right - np.searchsorted(ordered, values[place], side="left")
    few = np.flatnonzero(~many[group])
    ends = sizes[few].cumsum()
    begin = 0
    while begin < len(few):
        done = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + _PAIRS_AT_ONCE, side="right")))
        part = few[begin:end]
        rows = aranges(offsets[group[part]], sizes[part])
        other, mine, starts = scores[rows.values], rows.spread(values[part]), rows.offsets[:-1]
        above[part] = np.add.reduceat(other > mine, starts, dtype=np.int64)
        equal[part] = np.add.reduceat(other == mine, starts, dtype=np.int64)
        begin = end
    return above, equal
