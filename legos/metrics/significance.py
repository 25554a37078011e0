"""Is a difference between two methods more than luck: paired tests with Holm's correction."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def paired_p_values(
    reference: np.ndarray, others: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Compare methods with a reference on the same groups.

    Args:
        reference: ``(G,)`` a metric in every group, NaN where undefined.
        others: the same of each other method.

    Returns:
        by method ``difference`` (mean of method minus reference), ``wilcoxon`` (signed-rank test)
        and ``holm`` (Wilcoxon corrected for the number of methods; Holm, 1979).
    """
    from scipy.stats import wilcoxon

    results: dict[str, dict[str, float]] = {}
    for name, values in others.items():
        difference = (values - reference)[~np.isnan(values - reference)]
        p = 1.0 if not difference.any() else float(wilcoxon(difference).pvalue)
        mean = float(difference.mean()) if len(difference) else float("nan")
        results[name] = {"difference": mean, "wilcoxon": p}
    for name, p in holm({name: found["wilcoxon"] for name, found in results.items()}).items():
        results[name]["holm"] = p
    return results


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction of p-values (Scandinavian Journal of Statistics, 1979)."""
    corrected: dict[str, float] = {}
    running = 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda pair: pair[1])):
        running = max(running, min(1.0, p * (len(p_values) - rank)))
        corrected[name] = running
    return corrected
