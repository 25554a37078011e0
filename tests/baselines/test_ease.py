from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from legos.baselines.ease import EASE, EASEConfig, closed_form, ridge
from legos.baselines.local_systems import local_weights, nearest
from legos.errors import DataError, OutOfMemory
from tests.baselines.fitting import as_shares, fitted_to, some_reads

L2 = 3.0


def by_item(reads: np.ndarray, l2: float, support: list[list[int]]) -> np.ndarray:
    """Weights from items to items: a ridge regression of each item on its support, in float64."""
    weights = np.zeros((reads.shape[1], reads.shape[1]))
    for item, others in enumerate(support):
        x = reads[:, others]
        weights[others, item] = np.linalg.solve(
            x.T @ x + l2 * np.eye(len(others)), x.T @ reads[:, item]
        )
    return weights


def all_others(reads: np.ndarray) -> list[list[int]]:
    count = reads.shape[1]
    return [[other for other in range(count) if other != item] for item in range(count)]


def test_two_items_by_hand() -> None:
    """X'X = [[3, 2], [2, 2]], l2 1: an item on the other is 2 / (2 + 1) and 2 / (3 + 1)."""
    weights = closed_form(np.array([[3.0, 2.0], [2.0, 2.0]]), 1.0)
    assert np.allclose(weights, [[0, 1 / 2], [2 / 3, 0]])


@pytest.mark.parametrize("seed", [0, 1])
def test_scores_are_regressions_of_each_item_on_all_others(seed: int) -> None:
    reads = some_reads(seed)
    histories = some_reads(seed + 10)
    scores = EASE(EASEConfig(l2=L2)).fit(fitted_to(reads))(as_shares(histories))
    expected = histories @ by_item(reads, L2, all_others(reads))
    assert np.allclose(scores, expected, atol=1e-5)


def test_the_gradient_is_zero_off_the_diagonal() -> None:
    """Of |X - XB|^2 + l2 |B|^2, in float64; the diagonal is held at 0."""
    reads = some_reads(2)
    product = reads.T @ reads
    weights = closed_form(product.copy(), L2)
    gradient = product @ weights - product + L2 * weights
    assert np.abs(gradient[~np.eye(len(product), dtype=bool)]).max() < 1e-12
    assert not np.diag(weights).any()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_numbers_of_users_and_items_do_not_matter(seed: int) -> None:
    reads, generator = some_reads(seed), np.random.default_rng(seed)
    users, items = generator.permutation(40), generator.permutation(25)
    scores = EASE(EASEConfig(l2=L2)).fit(fitted_to(reads))(as_shares(reads))
    moved = reads[users][:, items]
    found = EASE(EASEConfig(l2=L2)).fit(fitted_to(moved))(as_shares(moved))
    assert np.allclose(found, scores[users][:, items], atol=1e-4)


def test_some_items_are_scored_as_among_all() -> None:
    reads = some_reads(4, share=0.5)  # any two items have a common user
    everything = EASE(EASEConfig(l2=L2)).fit(fitted_to(reads))(as_shares(reads))
    for neighbours in (None, 24):
        some = np.array([0, 5, 6, 20])
        method = EASE(EASEConfig(l2=L2, neighbours=neighbours))
        found = method.fit(fitted_to(reads, items=some))(as_shares(reads))
        assert found.shape == (40, 4)
        assert np.allclose(found, everything[:, some], atol=1e-4)


def of_nearest(reads: sparse.csr_matrix, neighbours: int) -> np.ndarray:
    found: np.ndarray = local_weights(reads, nearest(reads, neighbours), ridge(L2)).toarray()
    return found


def test_neighbours_are_regressions_on_the_nearest_alone() -> None:
    reads = some_reads(5)
    reads = reads[:, reads.any(0)]
    cosine = reads.T @ reads / np.sqrt(np.outer(reads.sum(0), reads.sum(0)))
    np.fill_diagonal(cosine, 0)
    support = [
        [each for each in np.argsort(-row, kind="stable")[:6] if row[each] > 0] for row in cosine
    ]
    found = of_nearest(sparse.csr_matrix(reads.astype(np.float32)), 6)
    assert np.allclose(found, by_item(reads, L2, support), atol=1e-5)


def test_batches_of_local_systems_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = sparse.csr_matrix(some_reads(6)[:, np.arange(25) != 5].astype(np.float32))
    whole = of_nearest(reads, 4)
    monkeypatch.setattr("legos.baselines.local_systems._UNION", 15)
    monkeypatch.setattr("legos.baselines.local_systems._NUMBERS_AT_ONCE", 100)
    assert np.allclose(of_nearest(reads, 4), whole, atol=1e-6)


def test_a_matrix_that_does_not_fit_is_refused_with_its_bytes_before_it_is_made() -> None:
    reads = sparse.csr_matrix((np.ones(100_000, np.float32), (np.arange(100_000) % 9,
                              np.arange(100_000))), shape=(9, 100_000))  # fmt: skip
    data = fitted_to(np.zeros((1, 1)), reads=reads, popularity=np.ones(100_000))
    with pytest.raises(
        OutOfMemory,
        match=r"100,000 x 100,000 items takes 40,000,000,000 bytes \(37\.3 GiB\), more than "
        r"max_gib: 8; give neighbours: 100, or a larger max_gib",
    ):
        EASE(EASEConfig()).fit(data)


def test_a_singular_matrix_is_refused() -> None:
    product = np.full((3, 3), 1e9, np.float32)
    with pytest.raises(DataError, match="no inverse in float32 with l2 1e-05; give more"):
        closed_form(product, 1e-5)
