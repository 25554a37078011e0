"""Grouped ranking metrics against scikit-learn and torchmetrics, and what must not change them."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from legos.metrics import grouped_metrics

NAMES = ["GAUC", "MRR", "MRR-all", "LRAP", "nDCG@5", "nDCG@10", "HR@5", "Recall@5"]


def random_groups(
    *, tied: bool, seed: int = 0, groups: int = 150
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, labels and offsets; every group has both classes."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], rng.integers(2, 40, groups).cumsum()])
    scores = rng.standard_normal(offsets[-1]).astype(np.float32)
    if tied:
        scores = np.round(scores, 1)
    labels = (rng.random(offsets[-1]) < 0.2).astype(np.int8)
    labels[offsets[:-1]], labels[offsets[1:] - 1] = 1, 0
    return scores, labels, offsets


@pytest.mark.slow
@pytest.mark.parametrize("tied", [False, True])
def test_metrics_equal_sklearn_in_every_group(tied: bool) -> None:
    from sklearn.metrics import (
        label_ranking_average_precision_score,
        log_loss,
        ndcg_score,
        roc_auc_score,
    )

    scores, labels, offsets = random_groups(tied=tied)
    found = grouped_metrics(scores, labels, offsets, [*NAMES, "AUC", "LogLoss"])
    for group, (begin, end) in enumerate(itertools.pairwise(offsets)):
        label, score = labels[begin:end], scores[begin:end]
        expected = {
            "GAUC": roc_auc_score(label, score),
            "LRAP": label_ranking_average_precision_score([label], [score]),
            "nDCG@5": ndcg_score([label], [score], k=5),
            "nDCG@10": ndcg_score([label], [score], k=10),
        }
        for name, value in expected.items():
            assert found.per_group[name][group] == pytest.approx(value), (name, group)
    assert found.values["AUC"] == pytest.approx(roc_auc_score(labels, scores))
    chance = 1 / (1 + np.exp(-scores.astype(np.float64)))
    assert found.values["LogLoss"] == pytest.approx(log_loss(labels, chance))


@pytest.mark.slow
def test_metrics_equal_torchmetrics_without_ties() -> None:
    from torchmetrics.functional.retrieval import (
        retrieval_hit_rate,
        retrieval_normalized_dcg,
        retrieval_recall,
        retrieval_reciprocal_rank,
    )

    scores, labels, offsets = random_groups(tied=False)
    # torchmetrics expects probabilities: it drops positives with a score of 0 or less
    scores = np.exp(scores)
    found = grouped_metrics(scores, labels, offsets, NAMES).per_group
    for group, (begin, end) in enumerate(itertools.pairwise(offsets)):
        score, label = torch.from_numpy(scores[begin:end]), torch.from_numpy(labels[begin:end])
        label = label.bool()
        expected = {
            "MRR": retrieval_reciprocal_rank(score, label),
            "HR@5": retrieval_hit_rate(score, label, top_k=5),
            "Recall@5": retrieval_recall(score, label, top_k=5),
            "nDCG@5": retrieval_normalized_dcg(score, label, top_k=5),
        }
        for name, value in expected.items():
            assert found[name][group] == pytest.approx(float(value), abs=1e-6), (name, group)


def test_mrr_all_equals_the_leaderboards_script() -> None:
    scores, labels, offsets = random_groups(tied=False)
    found = grouped_metrics(scores, labels, offsets, ["MRR-all"]).per_group["MRR-all"]
    for group, (begin, end) in enumerate(itertools.pairwise(offsets)):
        ranked = labels[begin:end][np.argsort(scores[begin:end])[::-1]]
        expected = (ranked / np.arange(1, len(ranked) + 1)).sum() / ranked.sum()
        assert found[group] == pytest.approx(expected)


@st.composite
def small_groups(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Groups of 0 to 6 rows with small whole scores, so that ties, empty and one-class abound."""
    sizes = draw(st.lists(st.integers(0, 6), min_size=1, max_size=6))
    rows = sum(sizes)
    scores = draw(st.lists(st.integers(-4, 4), min_size=rows, max_size=rows))
    labels = draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows))
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return np.array(scores, dtype=np.float64), np.array(labels, dtype=np.int8), offsets


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(small_groups())
def test_a_monotone_transform_changes_no_ranking_metric(
    case: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    scores, labels, offsets = case
    before = grouped_metrics(scores, labels, offsets, [*NAMES, "AUC"])
    after = grouped_metrics(np.exp(scores) * 3 - 1, labels, offsets, [*NAMES, "AUC"])
    for name, value in before.values.items():
        np.testing.assert_allclose(after.values[name], value, rtol=1e-12)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(small_groups(), st.integers(0, 2**32 - 1))
def test_the_order_of_rows_within_a_group_does_not_matter(
    case: tuple[np.ndarray, np.ndarray, np.ndarray], seed: int
) -> None:
    scores, labels, offsets = case
    rng, order = np.random.default_rng(seed), np.arange(len(scores))
    for begin, end in itertools.pairwise(offsets):
        rng.shuffle(order[begin:end])
    before = grouped_metrics(scores, labels, offsets, NAMES).per_group
    after = grouped_metrics(scores[order], labels[order], offsets, NAMES).per_group
    for name in NAMES:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-12)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(small_groups(), st.integers(0, 2**32 - 1))
def test_permuted_groups_permute_the_values(
    case: tuple[np.ndarray, np.ndarray, np.ndarray], seed: int
) -> None:
    scores, labels, offsets = case
    count = len(offsets) - 1
    # the id of a group is its new place
    place = np.random.default_rng(seed).permutation(count)
    before = grouped_metrics(scores, labels, offsets, NAMES)
    after = grouped_metrics(scores, labels, offsets, NAMES, groups=place)
    assert after.counts == before.counts
    for name in NAMES:
        np.testing.assert_allclose(after.per_group[name][place], before.per_group[name])


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(small_groups())
def test_every_ranking_metric_lies_between_0_and_1(
    case: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = grouped_metrics(*case, NAMES)
    for name, values in found.per_group.items():
        defined = values[~np.isnan(values)]
        assert ((defined >= -1e-12) & (defined <= 1 + 1e-12)).all(), name
        missing = found.counts["no_positive"]
        if name == "GAUC":
            missing = found.counts["empty"] + found.counts["one_class"]
        assert np.isnan(values).sum() == missing, name
