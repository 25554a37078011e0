"""Paired tests over groups."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_rel, wilcoxon

from legos.errors import DataError
from legos.metrics.beyond import holm, paired_p_values


def test_holm_worked_by_hand() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"b": 1.0, "a": 1.0}


def test_p_values_equal_scipys_on_the_pairs_without_nan() -> None:
    rng = np.random.default_rng(0)
    reference = rng.random(50)
    better, same = reference + rng.normal(0.1, 0.1, 50), rng.random(50)
    reference[3], better[7] = np.nan, np.nan
    kept = ~np.isnan(reference) & ~np.isnan(better)
    found = paired_p_values(reference, {"better": better, "same": same})
    own = found["better"]
    assert own["wilcoxon"] == pytest.approx(wilcoxon(better[kept], reference[kept]).pvalue)
    assert own["t_test"] == pytest.approx(ttest_rel(better[kept], reference[kept]).pvalue)
    assert own["difference"] == pytest.approx((better - reference)[kept].mean())
    assert own["holm"] == pytest.approx(2 * own["wilcoxon"])
    assert own["t_test_holm"] == pytest.approx(2 * own["t_test"])
    assert own["holm"] < 0.001 < found["same"]["holm"]


@pytest.mark.parametrize("values", [[0.5, 0.5], [np.nan, np.nan], [0.7, np.nan]])
def test_without_pairs_that_differ_nothing_is_significant(values: list[float]) -> None:
    found = paired_p_values(np.array([0.5, 0.5]), {"other": np.array(values)})["other"]
    assert found["wilcoxon"] == found["t_test"] == found["holm"] == found["t_test_holm"] == 1


def test_methods_on_other_groups_are_an_error() -> None:
    with pytest.raises(DataError, match="other"):
        paired_p_values(np.zeros(3), {"other": np.zeros(2)})
