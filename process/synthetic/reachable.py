"""How well the newsroom can be predicted at all: AUC of the generator's own probabilities.

``legos.metrics`` has the metrics of the toolkit; this side of the design must not import it, and
needs no more than a mid-rank AUC.
"""

from __future__ import annotations

import numpy as np

from legos.data.ragged import offsets_of


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Share of (click, no click) pairs that the scores order rightly; ties count half.

    Args:
        scores: ``(M,)`` float.
        labels: ``(M,)`` bool, both values present.
    """
    clicks, others = scores[labels], np.sort(scores[~labels])
    below = np.searchsorted(others, clicks, "left") + np.searchsorted(others, clicks, "right")
    return float(below.mean() / 2 / len(others))


def auc_by_impression(scores: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> float:
    """Mean over impressions of the AUC inside each; impressions of one class are left out.

    Args:
        scores: ``(M,)`` float.
        labels: ``(M,)`` bool.
        rows: ``(M,)`` int, the impression of every candidate.
    """
    distinct, ranks = np.unique(scores, return_inverse=True)
    key = rows.astype(np.int64) * len(distinct) + ranks
    clicks, others = key[labels], np.sort(key[~labels])
    num_others = np.bincount(rows[~labels], minlength=int(rows.max()) + 1)
    start = offsets_of(num_others)[:-1]
    of_click = rows[labels]
    below = np.searchsorted(others, clicks, "left") + np.searchsorted(others, clicks, "right")
    mixed = num_others[of_click] > 0
    share = (below / 2 - start[of_click])[mixed] / num_others[of_click][mixed]
    num_clicks = np.bincount(of_click[mixed])
    sums = np.bincount(of_click[mixed], weights=share)
    return float((sums[num_clicks > 0] / num_clicks[num_clicks > 0]).mean())
