"""Novelty, coverage and diversity of the first k."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from legos.metrics.beyond import beyond_accuracy, top_k

SCORES = np.array([0.1, 0.9, 0.5, 0.2, 0.2, 0.7])
OFFSETS = np.array([0, 3, 3, 5, 6])  # three rows, none, a tie, one


def test_top_k_ranks_every_group_and_keeps_the_earlier_row_of_a_tie() -> None:
    rows, group = top_k(SCORES, OFFSETS, 2)
    np.testing.assert_array_equal(rows, [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(group, [0, 0, 2, 2, 3])
    np.testing.assert_array_equal(top_k(SCORES, OFFSETS, 1)[0], [1, 3, 5])


def test_novelty_and_coverage_worked_by_hand() -> None:
    items = np.array([0, 1, 2, 1, 3, 1])
    popularity = np.array([7, 3, 1, 0, 5])
    found = beyond_accuracy(SCORES, items, OFFSETS, k=1, popularity=popularity, num_users=7)
    assert found == {"novelty@1": pytest.approx(1.0), "coverage@1": 1 / 5}  # item 1: -log2(4 / 8)
    found = beyond_accuracy(SCORES, items, OFFSETS, k=2, popularity=popularity, num_users=7)
    assert found["novelty@2"] == pytest.approx((1 + 2 + 1 + 3 + 1) / 5)
    assert found["coverage@2"] == 3 / 5
    half = beyond_accuracy(
        SCORES, items, OFFSETS, k=2, popularity=popularity, num_users=7, catalogue=4
    )
    assert half["coverage@2"] == 3 / 4


def test_an_item_without_readers_has_finite_novelty() -> None:
    one = np.array([1.0])
    found = beyond_accuracy(
        one, np.array([0]), np.array([0, 1]), k=1, popularity=np.array([0]), num_users=3
    )
    assert found["novelty@1"] == 2


@pytest.mark.parametrize("groups", [40, 5000])
def test_diversity_equals_the_mean_over_pairs(groups: int) -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(0, 6, groups)
    offsets = np.concatenate([[0], sizes.cumsum()])
    items, scores = rng.integers(0, 30, offsets[-1]), rng.standard_normal(offsets[-1])
    vectors = rng.standard_normal((30, 4))
    vectors[3] = 0  # a zero vector is at distance 1 from every other
    found = beyond_accuracy(
        scores, items, offsets, k=3, popularity=np.ones(30), num_users=9, item_vectors=vectors
    )
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(norms > 0, norms, 1)
    means = []
    for begin, end in itertools.pairwise(offsets):
        listed = items[begin:end][np.argsort(-scores[begin:end])[:3]]
        first, second = np.triu_indices(len(listed), 1)
        if len(first):
            means.append((1 - (unit[listed[first]] * unit[listed[second]]).sum(1)).mean())
    assert found["diversity@3"] == pytest.approx(np.mean(means))


def test_equal_items_have_no_diversity_and_single_ones_no_value() -> None:
    same = {"popularity": np.ones(2), "num_users": 2, "item_vectors": np.ones((2, 3))}
    found = beyond_accuracy(SCORES, np.zeros(6, int), OFFSETS, k=2, **same)
    assert found["diversity@2"] == pytest.approx(0)
    assert np.isnan(beyond_accuracy(SCORES, np.zeros(6, int), OFFSETS, k=1, **same)["diversity@1"])
