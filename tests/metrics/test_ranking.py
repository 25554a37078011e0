"""Grouped ranking metrics: by hand, edge cases, errors."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest

from legos.errors import DataError
from legos.metrics import GroupedMetrics, grouped_metrics

GROUPED = ["GAUC", "MRR", "MRR-all", "LRAP", "nDCG@2", "nDCG@5", "HR@2", "Recall@2"]


def measure(*groups: tuple[list[float], list[int]], names: list[str]) -> GroupedMetrics:
    """Metrics of groups given as (scores, labels)."""
    scores = np.array([score for each, _ in groups for score in each], dtype=np.float64)
    labels = np.array([label for _, each in groups for label in each], dtype=np.int8)
    offsets = np.concatenate([[0], np.cumsum([len(each) for each, _ in groups])])
    return grouped_metrics(scores, labels, offsets.astype(np.int64), names)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("GAUC", 3 / 6),  # ranks of the positives 2 and 4 of 5: they beat 2 + 1 of 3 negatives each
        ("MRR", 1 / 2),
        ("MRR-all", (1 / 2 + 1 / 4) / 2),
        ("LRAP", (1 / 2 + 2 / 4) / 2),
        ("nDCG@2", (1 / np.log2(3)) / (1 + 1 / np.log2(3))),
        ("nDCG@5", (1 / np.log2(3) + 1 / np.log2(5)) / (1 + 1 / np.log2(3))),
        ("HR@1", 0),
        ("HR@2", 1),
        ("Recall@2", 1 / 2),
        ("Recall@4", 1),
    ],
)
def test_a_ranking_worked_by_hand(name: str, expected: float) -> None:
    found = measure(([5, 4, 3, 2, 1], [0, 1, 0, 1, 0]), names=[name])
    assert found.values[name] == pytest.approx(expected)


def test_a_sum_of_metrics_is_the_sum_in_every_group() -> None:
    groups = (([5.0, 4, 3, 2], [0, 1, 0, 1]), ([3.0, 2, 1], [1, 0, 0]), ([2.0, 1], [0, 0]))
    names = ["Recall@1", "Recall@2", "nDCG@3"]
    found = measure(*groups, names=[*names, "+".join(names)])
    total = sum(found.per_group[name] for name in names)
    assert np.array_equal(found.per_group["+".join(names)], total, equal_nan=True)
    expected = sum(found.values[name] for name in names)
    assert found.values["+".join(names)] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("GAUC", 0.75),  # beats one negative, level with the other
        ("MRR", (1 + 1 / 2) / 2),
        ("MRR-all", (1 + 1 / 2) / 2),
        ("LRAP", 1 / 2),
        ("nDCG@1", 1 / 2),
        ("HR@1", 1 / 2),
        ("Recall@1", 1 / 2),
        ("Recall@2", 1),
    ],
)
def test_a_tie_worked_by_hand(name: str, expected: float) -> None:
    found = measure(([2, 2, 1], [1, 0, 0]), names=[name])
    assert found.values[name] == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_ties_take_the_mean_over_every_order_of_equal_scores(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 7))
    scores = rng.integers(0, 3, size).astype(float)
    labels = rng.integers(0, 2, size)
    labels[0] = 1
    names = ["MRR", "MRR-all", "Recall@2", "HR@2", "HR@3", "nDCG@3"]
    orders = [
        measure((list(scores + 0.01 * np.array(nudge)), list(labels)), names=names).values
        for nudge in itertools.permutations(range(size))
    ]
    found = measure((list(scores), list(labels)), names=names).values
    for name in names:
        assert found[name] == pytest.approx(np.mean([each[name] for each in orders])), name


def test_first_hit_has_the_closed_form_of_the_literature() -> None:
    from math import comb

    above, tied, positives = 3, 7, 3
    chances = [comb(tied - 1 - j, positives - 1) / comb(tied, positives) for j in range(5)]
    scores, labels = [9.0] * above + [1.0] * tied, [0] * above + [1] * positives + [0] * 4
    found = measure((scores, labels), names=["MRR", "HR@5"]).values
    assert found["MRR"] == pytest.approx(sum(p / (above + 1 + j) for j, p in enumerate(chances)))
    assert found["HR@5"] == pytest.approx(chances[0] + chances[1])


def test_undefined_groups_are_nan_left_out_and_counted() -> None:
    found = measure(
        ([2, 1], [1, 0]), ([2, 1], [0, 0]), ([2, 1], [1, 1]), ([], []), ([1, 2], [1, 0]),
        names=GROUPED,
    )  # fmt: skip
    assert found.counts == {
        "groups": 5, "rows": 8, "empty": 1, "one_class": 2, "no_positive": 2,
    }  # fmt: skip
    np.testing.assert_array_equal(found.per_group["GAUC"], [1, np.nan, np.nan, np.nan, 0])
    np.testing.assert_array_equal(found.per_group["MRR"], [1, np.nan, 1, np.nan, 0.5])
    assert found.values["GAUC"] == 0.5
    assert found.values["MRR"] == pytest.approx(2.5 / 3)
    assert set(found.per_group) == set(GROUPED)


@pytest.mark.parametrize("groups", [[([1.0, 2.0], [0, 0])], [([], [])], []])
def test_metrics_that_are_defined_nowhere_are_nan(
    groups: list[tuple[list[float], list[int]]],
) -> None:
    found = measure(*groups, names=[*GROUPED, "AUC"])
    assert all(np.isnan(value) for value in found.values.values())


def test_log_loss_is_finite_for_extreme_scores() -> None:
    found = measure(([1000, -1000, 0], [0, 0, 1]), names=["LogLoss"])
    assert found.values["LogLoss"] == pytest.approx((1000 + 0 + np.log(2)) / 3)
    assert "LogLoss" not in found.per_group


def test_float64_scores_that_float32_cannot_tell_apart_keep_their_order() -> None:
    scores = [1.0, 1.0 + 1e-12]
    assert measure((scores, [0, 1]), names=["GAUC", "MRR"]).values == {"GAUC": 1, "MRR": 1}
    assert measure((scores, [1, 0]), names=["GAUC", "MRR"]).values == {"GAUC": 0, "MRR": 0.5}


def test_negative_zero_equals_zero() -> None:
    assert measure(([0.0, -0.0], [1, 0]), names=["GAUC"]).values["GAUC"] == 0.5


def test_a_cut_off_beyond_every_group_costs_nothing() -> None:
    found = measure(([3, 2, 1], [0, 1, 0]), names=["nDCG@1000000000", "nDCG@3"]).values
    assert found["nDCG@1000000000"] == found["nDCG@3"] == pytest.approx(1 / np.log2(3))


@pytest.mark.parametrize("ids", [np.array([7, 3, 7]), np.array(["b", "a", "b"])])
def test_groups_join_impressions_of_one_user(ids: np.ndarray) -> None:
    scores, labels = np.array([1.0, 2, 9, 8, 3, 0]), np.array([1, 0, 0, 1, 0, 1])
    found = grouped_metrics(scores, labels, np.array([0, 2, 4, 6]), ["GAUC", "MRR"], groups=ids)
    joined = measure(([9, 8], [0, 1]), ([1, 2, 3, 0], [1, 0, 0, 1]), names=["GAUC", "MRR"])
    assert found.counts == joined.counts
    for name in joined.per_group:
        np.testing.assert_allclose(found.per_group[name], joined.per_group[name])


def test_groups_with_many_positives_equal_the_pairwise_count() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 400, 3000).astype(float), rng.integers(0, 2, 3000)
    # about 500, 20 and 980 positives: sorted, compared pair by pair, sorted
    offsets = np.array([0, 1000, 1040, 3000])
    found = grouped_metrics(scores, labels, offsets, ["GAUC"]).per_group["GAUC"]
    for group, (begin, end) in enumerate(itertools.pairwise(offsets)):
        own, label = scores[begin:end], labels[begin:end] == 1
        difference = own[label][:, None] - own[~label]
        expected = ((difference > 0) + 0.5 * (difference == 0)).mean()
        assert found[group] == pytest.approx(expected)


@pytest.mark.parametrize("share", [0.04, 0.5])
def test_memory_stays_below_a_fixed_sum_and_a_few_numbers_a_row(share: float) -> None:
    rng = np.random.default_rng(0)
    rows, groups = 600_000, 6_000
    scores, labels = rng.random(rows, np.float32), (rng.random(rows) < share).astype(np.int8)
    offsets = np.linspace(0, rows, groups + 1).astype(np.int64)
    tracemalloc.start()
    try:
        grouped_metrics(scores, labels, offsets, [*GROUPED, "AUC", "LogLoss"])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # a (positives x candidates) table of the 0.5 case alone would take 240 MB as float64
    assert peak < 80e6 + 100 * rows


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_names_the_first_group(bad: float) -> None:
    scores = np.array([1, 2, 3, bad, bad, 1])
    with pytest.raises(DataError, match=r"2 of 6 scores are not finite, the first in group 1"):
        grouped_metrics(scores, np.array([0, 1] * 3), np.array([0, 2, 4, 6]), ["GAUC"])


@pytest.mark.parametrize("bad", [-1, 2, 0.5, np.nan])
def test_a_label_other_than_0_and_1_is_an_error(bad: float) -> None:
    with pytest.raises(DataError, match="row 1 has label"):
        grouped_metrics(np.zeros(3), np.array([0, bad, 1]), np.array([0, 3]), ["GAUC"])


@pytest.mark.parametrize(
    ("scores", "labels", "offsets"),
    [
        (np.zeros(3), np.zeros(2), np.array([0, 3])),
        (np.zeros(3), np.zeros(3), np.array([0, 2])),
        (np.zeros((3, 1)), np.zeros((3, 1)), np.array([0, 3])),
        (np.zeros(3), np.zeros(3), np.array([1, 3])),
        (np.zeros(3), np.zeros(3), np.array([0, 3, 2, 3])),
        (np.zeros(0), np.zeros(0), np.zeros(0, np.int64)),
    ],
)
def test_shapes_that_do_not_match_are_errors(
    scores: np.ndarray, labels: np.ndarray, offsets: np.ndarray
) -> None:
    with pytest.raises(DataError, match=r"do not match|offsets must"):
        grouped_metrics(scores, labels, offsets, ["GAUC"])


def test_too_few_group_ids_are_an_error() -> None:
    with pytest.raises(DataError, match="1 group ids for 2 impressions"):
        grouped_metrics(
            np.zeros(2), np.zeros(2), np.array([0, 1, 2]), ["GAUC"], groups=np.array([1])
        )
