"""Metrics beyond accuracy: novelty, diversity and coverage of the first k of every ranking."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from legos.data.ragged import Ragged
from legos.errors import DataError

_LISTS_AT_ONCE = 2048  # their vectors are in memory at once: about 40 MB of float64 at k=10, D=256


def top_k(scores: np.ndarray, offsets: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The best k rows of every group; of equal scores the earlier row comes first.

    Args:
        scores: ``(M,)`` float.
        offsets: ``(G + 1,)`` int64.
        k: how many; groups with fewer give what they have.

    Returns:
        rows ``(R,)`` int64 in ranking order, group after group, and the group ``(R,)`` of each.
    """
    groups = Ragged(scores, offsets)
    group = groups.rows
    order = np.lexsort((-scores, group))
    kept = groups.positions < k
    return order[kept], group[kept]


def beyond_accuracy(
    scores: np.ndarray,
    items: np.ndarray,
    offsets: np.ndarray,
    *,
    k: int,
    popularity: np.ndarray,
    num_users: int,
    catalogue: int | None = None,
    item_vectors: np.ndarray | None = None,
) -> dict[str, float]:
    """Novelty, coverage and, with item vectors, intra-list diversity of the first k.

    Args:
        scores: ``(M,)`` float.
        items: ``(M,)`` int64 candidate items.
        offsets: ``(G + 1,)`` int64.
        k: length of the lists.
        popularity: ``(items,)`` users of the training split that read each item.
        num_users: users of the training split.
        catalogue: number of items that may be listed; None: all.
        item_vectors: ``(items, D)``.

    Returns:
        ``novelty@k``: mean of -log2 of the share of users that read a listed item, with one reader
        more than counted so that a new item is finite (Vargas and Castells, RecSys 2011);
        ``coverage@k``: share of the catalogue that is in some list (Ge et al.,
        RecSys 2010); ``diversity@k``: mean over lists of two or more of the mean of 1 - cosine over
        pairs (Ziegler et al., WWW 2005).
    """
    rows, group = top_k(scores, offsets, k)
    return beyond_accuracy_of_lists(
        items[rows],
        group,
        len(offsets) - 1,
        k=k,
        popularity=popularity,
        num_users=num_users,
        catalogue=catalogue,
        item_vectors=item_vectors,
    )


def beyond_accuracy_of_lists(
    listed: np.ndarray,
    group: np.ndarray,
    groups: int,
    *,
    k: int,
    popularity: np.ndarray,
    num_users: int,
    catalogue: int | None = None,
    item_vectors: np.ndarray | None = None,
) -> dict[str, float]:
    """Novelty, coverage and diversity of given lists.

    Args:
        listed: ``(R,)`` int64 items, list after list.
        group: ``(R,)`` int64 ascending list of each.
        groups: number of lists.
        k, popularity, num_users, catalogue, item_vectors: as for :func:`beyond_accuracy`.
    """
    share = (popularity[listed] + 1) / (num_users + 1)
    values = {
        f"novelty@{k}": float(-np.log2(share).mean()) if len(listed) else float("nan"),
        f"coverage@{k}": len(np.unique(listed)) / max(1, catalogue or len(popularity)),
    }
    if item_vectors is not None:
        values[f"diversity@{k}"] = _diversity(item_vectors, listed, group, groups)
    return values


def _diversity(vectors: np.ndarray, listed: np.ndarray, group: np.ndarray, groups: int) -> float:
    """Mean over lists of the mean of 1 - cosine; pairs are summed as |sum|² - sum of squares."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(norms > 0, norms, 1)
    count = np.bincount(group, minlength=groups)
    longer = count > 1
    if not longer.any():
        return float("nan")
    squares = np.bincount(group, norms[listed, 0] > 0, groups)  # a unit vector's square is 1
    cosines = -squares
    ends = count.cumsum()
    for low in range(0, groups, _LISTS_AT_ONCE):
        part = np.flatnonzero(count[low : low + _LISTS_AT_ONCE]) + low
        if len(part):
            first, last = ends[part[0]] - count[part[0]], ends[part[-1]]
            begin = ends[part] - count[part] - first
            total = np.add.reduceat(unit[listed[first:last]].astype(np.float64), begin)
            cosines[part] += (total**2).sum(1)
    pairs = count * (count - 1)
    return float((1 - cosines[longer] / pairs[longer]).mean())


ALL = "all"
"""The subset that every group is in."""


def item_subsets(
    labels: np.ndarray, offsets: np.ndarray, cold_items: np.ndarray
) -> dict[str, np.ndarray]:
    """Masks of cold and warm groups. A group with cold and warm positives is in neither subset.

    Args:
        labels: ``(M,)`` 1 = positive, 0 = negative.
        offsets: ``(G + 1,)`` int64; group g is rows ``offsets[g]:offsets[g + 1]``.
        cold_items: ``(M,)`` bool: the row's item is unseen in training.

    Returns:
        ``(G,)`` bool each: ``cold items`` and ``warm items`` (all positives are such; at least
        one).

    Raises:
        DataError: lengths differ.
    """
    groups = len(offsets) - 1
    if labels.shape != cold_items.shape or int(offsets[-1]) != len(labels):
        raise DataError(
            f"labels {labels.shape}, cold_items {cold_items.shape} and offsets up to {offsets[-1]} "
            "do not match"
        )
    rows = np.flatnonzero(labels)
    group = np.searchsorted(offsets, rows, side="right") - 1
    positives = np.bincount(group, minlength=groups)
    cold = np.bincount(group, cold_items[rows], groups)
    return {
        "cold items": (positives > 0) & (cold == positives),
        "warm items": (positives > 0) & (cold == 0),
    }


def user_subsets(
    clicks: np.ndarray, seen: np.ndarray, *, cold_user_clicks: int
) -> dict[str, np.ndarray]:
    """Masks of groups by properties of their users.

    Args:
        clicks: ``(G,)`` of the user before the group's impression.
        seen: ``(G,)`` bool: the user has an impression in the training split.
        cold_user_clicks: a user with at most so many clicks is cold (5 in ONCE).

    Returns:
        ``(G,)`` bool each: ``cold users`` and ``active users``, ``unseen users`` and ``seen
        users``.

    Raises:
        DataError: lengths differ.
    """
    if clicks.shape != seen.shape:
        raise DataError(f"clicks {clicks.shape} and seen {seen.shape} do not match")
    return {
        "cold users": clicks <= cold_user_clicks,
        "active users": clicks > cold_user_clicks,
        "unseen users": ~seen,
        "seen users": seen,
    }


def paired_p_values(
    reference: np.ndarray, others: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Compare methods with a reference on the same groups.

    Args:
        reference: ``(G,)`` a metric in every group, NaN where undefined.
        others: the same of each other method.

    Returns:
        by method ``difference`` (mean of method minus reference), ``wilcoxon`` (signed-rank test),
        ``t_test`` (paired), and ``holm`` and ``t_test_holm`` (the two corrected for the number of
        methods; Holm, 1979). Pairs with a NaN are left out; without a pair that differs p is 1.

    Raises:
        DataError: a method has another number of groups than the reference.
    """
    from scipy.stats import ttest_1samp, wilcoxon

    results: dict[str, dict[str, float]] = {}
    for name, values in others.items():
        if values.shape != reference.shape:
            raise DataError(f"{name}: {values.shape} groups, the reference has {reference.shape}")
        difference = (values - reference)[~np.isnan(values - reference)]
        differs = len(difference) > 1 and bool(difference.any())
        results[name] = {
            "difference": float(difference.mean()) if len(difference) else float("nan"),
            "wilcoxon": float(wilcoxon(difference).pvalue) if differs else 1.0,
            "t_test": float(ttest_1samp(difference, 0.0).pvalue) if differs else 1.0,
        }
    for test, corrected in (("wilcoxon", "holm"), ("t_test", "t_test_holm")):
        for name, p in holm({name: found[test] for name, found in results.items()}).items():
            results[name][corrected] = p
    return results


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction of p-values (Scandinavian Journal of Statistics, 1979)."""
    corrected: dict[str, float] = {}
    running = 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda pair: pair[1])):
        running = max(running, min(1.0, p * (len(p_values) - rank)))
        corrected[name] = running
    return corrected
