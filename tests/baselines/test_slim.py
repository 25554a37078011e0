from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import ElasticNet

from legos.baselines.slim import SLIM, SLIMConfig
from legos.errors import OutOfMemory
from tests.baselines.fitting import as_shares, fitted_to, some_reads

EXACT = SLIMConfig(l1=0.4, l2=2.0, neighbours=None, sweeps=2000, tolerance=1e-7)


def by_item(reads: np.ndarray, support: list[list[int]]) -> np.ndarray:
    """scikit-learn's elastic net of 0 and more for each item on its support, in float64."""
    users, items = reads.shape
    weights = np.zeros((items, items))
    for item, others in enumerate(support):
        if others and reads[:, item].any():
            net = ElasticNet(
                alpha=2.4 / users,
                l1_ratio=0.4 / 2.4,
                positive=True,
                fit_intercept=False,
                tol=1e-8,
                max_iter=3000,
            )
            weights[others, item] = net.fit(reads[:, others], reads[:, item]).coef_
    return weights


def test_weights_are_elastic_nets_on_all_other_items() -> None:
    """Those without a common user, which ours leaves out, have none in the reference."""
    reads, histories = some_reads(1), some_reads(2)
    support = [[each for each in range(25) if each != item] for item in range(25)]
    expected = by_item(reads, support)
    assert 0 < (expected > 0).mean() < 0.5
    found = SLIM(EXACT).fit(fitted_to(reads))(as_shares(histories))
    assert np.allclose(found, (histories > 0) @ expected, atol=1e-4)
    some = np.array([2, 5, 7])
    part = SLIM(EXACT).fit(fitted_to(reads, items=some))(as_shares(histories))
    assert np.allclose(part, found[:, some], atol=1e-6)


def test_neighbours_are_elastic_nets_on_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = some_reads(5)[:, np.arange(25) != 5]
    cosine = reads.T @ reads / np.sqrt(np.outer(reads.sum(0), reads.sum(0)))
    np.fill_diagonal(cosine, 0)
    support = [
        [each for each in np.argsort(-row, kind="stable")[:6] if row[each] > 0] for row in cosine
    ]
    method = SLIM(EXACT.model_copy(update={"neighbours": 6}))
    weights = method.learn(fitted_to(reads))["weights"].toarray()
    assert np.allclose(weights, by_item(reads, support), atol=1e-4)
    monkeypatch.setattr("legos.baselines.local_systems._NUMBERS_AT_ONCE", 40)
    again = method.learn(fitted_to(reads))["weights"].toarray()
    assert np.allclose(again, weights, atol=1e-5)


def test_a_larger_l1_leaves_fewer_weights() -> None:
    counts = [
        SLIM(EXACT.model_copy(update={"l1": l1})).learn(fitted_to(some_reads()))["weights"].nnz
        for l1 in (0.0, 0.5, 1.0, 3.0, 50.0)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[2] > counts[-1] == 0


def test_all_neighbours_of_many_readers_are_refused_before_they_are_found() -> None:
    reads = sparse.csr_matrix(np.ones((3, 500), np.float32))
    data = fitted_to(np.zeros((1, 1)), reads=reads, popularity=np.ones(500))
    with pytest.raises(OutOfMemory, match=r"baseline slim: .* give neighbours: 100"):
        SLIM(EXACT.model_copy(update={"max_gib": 1e-4})).learn(data)
