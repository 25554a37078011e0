from __future__ import annotations

import numpy as np
import pytest

from legos.baselines.rp3beta import RP3Beta, RP3BetaConfig
from tests.baselines.fitting import as_shares, fitted_to, some_reads


@pytest.mark.parametrize(("alpha", "beta", "k"), [(1.0, 0.0, 25), (0.8, 0.6, 25), (1.2, 0.3, 4)])
def test_scores_are_walks_from_item_to_reader_to_item(alpha: float, beta: float, k: int) -> None:
    """By loops over the readers of pairs, in float64."""
    reads, histories = some_reads(1), some_reads(2)
    items, popularity, lengths = reads.shape[1], reads.sum(0), reads.sum(1)
    walk = np.zeros((items, items))
    for one in range(items):
        for other in range(items):
            for user in np.flatnonzero(reads[:, one] * reads[:, other]):
                if one != other:
                    step = (1 / popularity[one]) ** alpha * (1 / lengths[user]) ** alpha
                    walk[one, other] += step / popularity[other] ** beta
    for row in walk:
        row[np.argsort(-row, kind="stable")[k:]] = 0
    method = RP3Beta(RP3BetaConfig(alpha=alpha, beta=beta, k=k))
    expected = as_shares(histories).toarray() @ walk
    assert np.allclose(method.fit(fitted_to(reads))(as_shares(histories)), expected, atol=1e-5)
    some = np.array([2, 5, 19])
    found = method.fit(fitted_to(reads, items=some))(as_shares(histories))
    assert np.allclose(found, expected[:, some], atol=1e-5)


def test_a_walk_without_powers_is_a_probability() -> None:
    reads = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1.0]])
    walk = RP3Beta(RP3BetaConfig(alpha=1, beta=0)).fit(fitted_to(reads))(as_shares(np.eye(3)))
    assert np.allclose(walk, np.full((3, 3), 1 / 4) - np.eye(3) / 4)  # 1/2 stay at home
