"""Metrics from places alone equal those of whole sorted lists, with ties and any cut-off."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from legos.errors import ConfigError
from legos.metrics import grouped_metrics
from legos.metrics.full_ranking import counted_metrics, full_ranking_metrics
from legos.metrics.ranking import locate_positives
from tests.bricks import quick

NAMES = ["Recall@1", "Recall@3", "nDCG@2", "nDCG@50", "HR@2", "MRR", "MRR-all", "LRAP", "GAUC"]


def liang(ranked: list[int], targets: set[int], k: int) -> tuple[float, float]:
    """Recall@k and nDCG@k of one list as Multi-VAE's paper writes them (WWW 2018, section 4.2)."""
    hits = [item in targets for item in ranked[:k]]
    most = min(k, len(targets))
    gain = sum(hit / np.log2(place + 2) for place, hit in enumerate(hits))
    return sum(hits) / most, gain / sum(1 / np.log2(place + 2) for place in range(most))


def test_the_golden_of_multi_vae() -> None:
    """y = [1,0,1,0,0,0], s = [5,4,3,2,1,0]; afterwards item 0 is excluded."""
    scores, labels = np.array([5.0, 4, 3, 2, 1, 0]), np.array([1, 0, 1, 0, 0, 0])
    names = ["Recall@1", "Recall@2", "Recall@3", "nDCG@2", "nDCG@3"]
    offsets = np.array([0, 6])
    found = counted_metrics(
        locate_positives(scores, labels, offsets), np.array([2]), np.array([6]), names
    )
    expected = [1, 0.5, 1, 0.6131471927654584, 0.9197207891481876]
    assert [found.values[name] for name in names] == pytest.approx(expected, abs=1e-15)
    scores[0] = -1e9  # still a target, at the end of the list
    found = counted_metrics(
        locate_positives(scores, labels, offsets), np.array([2]), np.array([6]), names
    )
    assert found.values["nDCG@3"] == pytest.approx(0.38685280723454163, abs=1e-15)


@quick
@given(st.integers(0, 10_000))
def test_metrics_from_counts_are_those_of_sorted_lists(seed: int) -> None:
    """Ties by expectation: the mean over all orders that a stable sort may start from."""
    generator = np.random.default_rng(seed)
    items, k = int(generator.integers(1, 6)), int(generator.integers(1, 9))
    scores = generator.integers(0, 3, items).astype(float)
    labels = (generator.random(items) < 0.5).astype(int)
    labels[generator.integers(items)] = 1
    offsets = np.array([0, items])
    clicks = np.array([labels.sum()])
    found = counted_metrics(
        locate_positives(scores, labels, offsets),
        clicks,
        np.array([items]),
        [f"Recall@{k}", f"nDCG@{k}", f"HR@{k}", "MRR"],
    ).values
    targets = set(np.flatnonzero(labels).tolist())
    orders = list(itertools.permutations(range(items)))
    sums = np.zeros(4)
    for order in orders:  # each breaks the ties in its own way
        ranked = np.lexsort((order, -scores)).tolist()
        first = next(place for place, item in enumerate(ranked, 1) if item in targets)
        sums += [*liang(ranked, targets, k), first <= k, 1 / first]
    assert list(found.values()) == pytest.approx(sums / len(orders))


def test_all_but_recall_are_the_metrics_of_shown_candidates() -> None:
    generator = np.random.default_rng(1)
    sizes = generator.integers(1, 12, 60)
    offsets = np.concatenate([[0], sizes.cumsum()])
    scores = generator.integers(0, 4, offsets[-1]).astype(float)
    labels = (generator.random(offsets[-1]) < 0.3).astype(int)
    expected = grouped_metrics(scores, labels, offsets, NAMES)
    clicks = np.add.reduceat(labels, offsets[:-1])
    found = counted_metrics(locate_positives(scores, labels, offsets), clicks, sizes, NAMES)
    assert found.counts == expected.counts
    for name in NAMES:
        ours, theirs = found.per_group[name], expected.per_group[name]
        if name.startswith("Recall"):
            k = int(name[7:])
            theirs = theirs * clicks / np.maximum(np.minimum(clicks, k), 1)
        assert np.allclose(ours, theirs, equal_nan=True)


def test_a_user_has_the_mean_of_the_users_lists() -> None:
    """User 7: hit and miss; user 3: no click in one list, a hit in the other."""
    labels = np.array([1, 0, 0, 1, 0, 0, 1, 0])
    scores = np.array([2.0, 1, 2, 1, 2, 1, 2, 1])
    offsets = np.array([0, 2, 4, 6, 8])
    found = counted_metrics(
        locate_positives(scores, labels, offsets),
        np.array([1, 1, 0, 1]),
        np.full(4, 2),
        ["HR@1"],
        groups=np.array([7, 7, 3, 3]),
    )
    assert found.per_group["HR@1"].tolist() == [1.0, 0.5]  # users in ascending order
    assert found.values["HR@1"] == 0.75
    assert (found.counts["groups"], found.counts["no_positive"]) == (2, 1)


def test_lists_and_counts_agree_where_nothing_is_tied() -> None:
    generator = np.random.default_rng(2)
    users, items = 30, 25
    scores = generator.permuted(np.tile(np.arange(items), (users, 1)), axis=1)
    labels = (generator.random((users, items)) < 0.2).astype(int)
    labels[0] = 0
    ranked = (-scores).argsort(axis=1)
    user, targets = labels.nonzero()
    offsets = np.searchsorted(user, np.arange(users + 1))
    lists = full_ranking_metrics(ranked, targets, offsets, recall_at=(3, 99), ndcg_at=(5,))
    places = locate_positives(scores.ravel(), labels.ravel(), np.arange(users + 1) * items)
    counts = counted_metrics(places, labels.sum(1), np.full(users, items), list(lists.values))
    for name, values in counts.per_group.items():
        assert np.allclose(values, lists.per_user[name], equal_nan=True)
    assert lists.counts == {"users": users, "without_targets": int((labels.sum(1) == 0).sum())}
    assert lists.values["Recall@99"] == 1.0  # a cut-off beyond the catalogue


@pytest.mark.parametrize("name", ["AUC", "LogLoss"])
def test_metrics_that_need_scores_are_refused(name: str) -> None:
    places = locate_positives(np.zeros(0), np.zeros(0, int), np.zeros(1, int))
    with pytest.raises(ConfigError, match="take GAUC"):
        counted_metrics(places, np.zeros(0, int), np.zeros(0, int), [name])
