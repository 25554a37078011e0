"""Is a difference between two methods more than luck: paired tests with Holm's correction."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from legos.errors import DataError


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
