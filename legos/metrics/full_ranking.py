"""Metrics of rankings of all items: Recall@K and nDCG@K as in Multi-VAE.

Liang et al., "Variational Autoencoders for Collaborative Filtering", WWW 2018, section 4.2: recall
is divided by ``min(K, |T|)``, so that a perfect list has 1; nDCG's ideal likewise. Elsewhere in
this package ``Recall@K`` is divided by ``|T|``. A list holds all positives, so that they compete
with each other, too. Ties are treated as in ``ranking``: expected values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from legos.data.ragged import from_lengths
from legos.errors import ConfigError, DataError
from legos.metrics.names import GLOBAL, parse_metric
from legos.metrics.ranking import (
    GroupedMetrics,
    Positives,
    mean_where_defined,
    of_groups,
)


def counted_metrics(
    positives: Positives,
    clicks: np.ndarray,
    sizes: np.ndarray,
    names: Sequence[str],
    *,
    groups: np.ndarray | None = None,
) -> GroupedMetrics:
    """Compute metrics of lists from the places of their positives.

    Args:
        positives: where they stand; group = number of the list.
        clicks: ``(n,)`` int64 positives of each list.
        sizes: ``(n,)`` int64 items of each list.
        names: metrics, see :func:`legos.metrics.parse_metric`; LogLoss and AUC over all rows need
            scores and are not among them.
        groups: ``(n,)`` the group of each list, for example its user: a group's metric is the mean
            over its lists. Every list is a group when not given.

    Raises:
        ConfigError: a name is unknown, or is one of those that need scores.
    """
    metrics = [parse_metric(name) for name in names]
    for metric in metrics:
        if metric.kind in GLOBAL:
            raise ConfigError(f"{metric.name} is not defined where all items are ranked; take GAUC")
    per_group = {}
    for metric in metrics:
        found = of_groups(metric, positives, clicks, sizes, capped_recall=True)
        per_group[metric.name] = found if groups is None else _mean_of_groups(found, groups)
    counts = {
        "groups": len(sizes) if groups is None else len(np.unique(groups)),
        "rows": int(sizes.sum()),
        "empty": int((sizes == 0).sum()),
        "one_class": int(((sizes > 0) & ((clicks == 0) | (clicks == sizes))).sum()),
        "no_positive": int((clicks == 0).sum()),
    }
    values = {name: mean_where_defined(found) for name, found in per_group.items()}
    return GroupedMetrics(values, per_group, counts)


def _mean_of_groups(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Mean of the values of each group that are not NaN, in ascending order of the groups' ids."""
    _, place = np.unique(groups, return_inverse=True)
    defined = ~np.isnan(values)
    count = int(place.max(initial=-1)) + 1
    total = np.bincount(place[defined], values[defined], count)
    return _ratio(total, np.bincount(place[defined], minlength=count))


@dataclass(frozen=True)
class FullRanking:
    """Metrics of the rankings of many users.

    Attributes:
        values: by name, ``Recall@20``; means over users with targets, NaN where there is none.
        per_user: by name ``(U,)`` float64, NaN for users without targets.
        counts: ``users`` and those ``without_targets``.
    """

    values: dict[str, float]
    per_user: dict[str, np.ndarray] = field(repr=False)
    counts: dict[str, int]


def full_ranking_metrics(
    ranked: np.ndarray,
    targets: np.ndarray,
    offsets: np.ndarray,
    *,
    recall_at: Sequence[int] = (20, 40),
    ndcg_at: Sequence[int] = (100,),
) -> FullRanking:
    """Measure ranked lists.

    Args:
        ranked: ``(U, M)`` item numbers, best first, all different in a row; -1 where a list ends.
            M is at least the largest cut-off, or all items that there are.
        targets: the users' target items end to end, all different in a user.
        offsets: ``(U + 1,)`` int64; user u has ``targets[offsets[u]:offsets[u + 1]]``.
        recall_at: cut-offs.
        ndcg_at: cut-offs.

    Raises:
        ConfigError: a cut-off is below 1.
        DataError: lists and targets are of different numbers of users.
    """
    if min([*recall_at, *ndcg_at], default=1) < 1:
        raise ConfigError(f"cut-offs {[*recall_at, *ndcg_at]}: expected 1 or more")
    if len(offsets) != len(ranked) + 1 or offsets[-1] != len(targets):
        raise DataError(
            f"{len(ranked)} ranked lists, {len(targets)} targets and offsets of "
            f"{len(offsets) - 1} users up to {offsets[-1]} do not match"
        )
    clicks = np.diff(offsets)  # (U,)
    names = [f"Recall@{k}" for k in recall_at] + [f"nDCG@{k}" for k in ndcg_at]
    # as if a list ended where the longest cut-off or what was handed over ends
    sizes = np.full(len(ranked), max([ranked.shape[1], *recall_at, *ndcg_at]))
    found = counted_metrics(listed(ranked, targets, clicks), clicks, sizes, names)
    counts = {"users": len(clicks), "without_targets": int((clicks == 0).sum())}
    return FullRanking(found.values, found.per_group, counts)


def listed(ranked: np.ndarray, targets: np.ndarray, clicks: np.ndarray) -> Positives:
    """Find the places of targets in their users' lists.

    Args:
        ranked: ``(U, M)`` item numbers, best first, all different in a row; -1 where a list ends.
        targets: the users' target items end to end.
        clicks: ``(U,)`` int64 targets of each user.
    """
    hits = np.zeros(ranked.shape, dtype=bool)  # (U, M)
    if len(targets):
        width = int(max(targets.max(), ranked.max(initial=0))) + 1
        wanted = from_lengths(targets, clicks).rows * width + targets
        keys = np.arange(len(ranked))[:, None] * width + ranked
        hits = np.isin(keys, wanted) & (ranked >= 0)
    user, place = np.nonzero(hits)
    earlier = np.arange(len(user)) - np.searchsorted(user, user)
    one = np.ones(len(user), dtype=np.int64)
    return Positives(user, place, one, earlier, one)


def _ratio(gain: np.ndarray, ideal: np.ndarray) -> np.ndarray:
    result = np.full(len(gain), np.nan)
    np.divide(gain, ideal, out=result, where=ideal > 0)
    return result


PRINTED = 1.5e-4  # tolerance for numbers rounded to four digits


def bound_violations(row: Mapping[str, float], *, tolerance: float = 1e-9) -> list[str]:
    """List what is impossible in a row of metrics with one positive per user; empty if it is sound.

    Args:
        row: by name; ``HR@k`` and ``nDCG@k`` count, others are ignored.
        tolerance: for rounding; ``PRINTED`` for published numbers.

    Returns:
        One line a violation, for example ``nDCG@10 0.0446 is not in [0.0427, 0.0438]``.
    """
    hits, gains = _at_cutoffs(row, "HR"), _at_cutoffs(row, "nDCG")
    found = []
    for name, value in row.items():
        is_nan = math.isnan(value)
        if parse_or_none(name) in ("HR", "nDCG") and (is_nan or not 0 <= value <= 1 + tolerance):
            found.append(f"{name} {value:.4f} is not in [0, 1]")
    lower = {0: (0.0, 0.0)}  # cut-off -> HR, nDCG; at 0 both are 0
    cutoffs = sorted(hits)
    for before, k in pairwise(cutoffs):
        if hits[k] < hits[before] - tolerance:
            found.append(f"HR@{k} {hits[k]:.4f} is below HR@{before} {hits[before]:.4f}")
    if 1 in hits:
        gains.setdefault(1, hits[1])  # the same thing
        if abs(gains[1] - hits[1]) > tolerance:
            found.append(f"nDCG@1 {gains[1]:.4f} is not HR@1 {hits[1]:.4f}")
    both = sorted(hits.keys() & gains.keys())
    lower |= {k: (hits[k], gains[k]) for k in both}
    for before, k in pairwise([0, *both]):
        more = hits[k] - lower[before][0]
        if more < -tolerance:
            continue  # said above
        least = lower[before][1] + more / math.log2(k + 1)
        most = lower[before][1] + more / math.log2(before + 2)
        if not least - tolerance <= gains[k] <= most + tolerance:
            found.append(f"nDCG@{k} {gains[k]:.4f} is not in [{least:.4f}, {most:.4f}]")
    return found


def require_possible(row: Mapping[str, float], *, source: str, tolerance: float = 1e-9) -> None:
    """Raise an error for an impossible row of metrics.

    Raises:
        DataError: with one positive a user no ranking has these numbers.
    """
    found = bound_violations(row, tolerance=tolerance)
    if found:
        raise DataError(
            f"{source}: impossible with one positive a user: {'; '.join(found)}; expected numbers "
            "of one ranking"
        )


def parse_or_none(name: str) -> str | None:
    """The kind of a metric, None for other columns."""
    try:
        return parse_metric(name).kind
    except ValueError:
        return None


def _at_cutoffs(row: Mapping[str, float], kind: str) -> dict[int, float]:
    found: dict[int, float] = {}
    names: Sequence[str] = [name for name in row if parse_or_none(name) == kind]
    for name in names:
        k = parse_metric(name).k
        if k is not None and not math.isnan(row[name]):
            found[k] = row[name]
    return found
