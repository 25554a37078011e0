"""Metrics of rankings of all items: Recall@K and nDCG@K as in Multi-VAE.

Liang et al., "Variational Autoencoders for Collaborative Filtering", WWW 2018, section 4.2: recall
is divided by ``min(K, |T|)``, so that a perfect list has 1; nDCG's ideal likewise. Elsewhere in
this package ``Recall@K`` is divided by ``|T|``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from legos.errors import ConfigError, DataError


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
    sizes = np.diff(offsets)  # (U,)
    hits = _hits(ranked, targets, sizes)  # (U, M)
    discounts = 1 / np.log2(np.arange(2, ranked.shape[1] + 2))
    per_user: dict[str, np.ndarray] = {}
    for k in recall_at:
        per_user[f"Recall@{k}"] = _ratio(hits[:, :k].sum(1), np.minimum(sizes, k))
    for k in ndcg_at:
        ideal = np.concatenate([[0.0], (1 / np.log2(np.arange(2, k + 2))).cumsum()])
        gain = (hits[:, :k] * discounts[:k]).sum(1)
        per_user[f"nDCG@{k}"] = _ratio(gain, ideal[np.minimum(sizes, k)])
    values = {
        name: float(found[sizes > 0].mean()) if (sizes > 0).any() else float("nan")
        for name, found in per_user.items()
    }
    counts = {"users": len(sizes), "without_targets": int((sizes == 0).sum())}
    return FullRanking(values, per_user, counts)


def _hits(ranked: np.ndarray, targets: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Which places of the lists hold a target of their user: ``(U, M)`` bool."""
    if not len(targets):
        return np.zeros(ranked.shape, dtype=bool)
    width = int(max(targets.max(), ranked.max(initial=0))) + 1
    wanted = np.repeat(np.arange(len(sizes)), sizes) * width + targets
    keys = np.arange(len(ranked))[:, None] * width + ranked
    found: np.ndarray = np.isin(keys, wanted) & (ranked >= 0)
    return found


def _ratio(gain: np.ndarray, ideal: np.ndarray) -> np.ndarray:
    result = np.full(len(gain), np.nan)
    np.divide(gain, ideal, out=result, where=ideal > 0)
    return result
