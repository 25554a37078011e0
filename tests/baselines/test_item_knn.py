from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from legos.baselines.item_knn import ItemKNN, ItemKNNConfig
from legos.baselines.neighbours import strongest
from legos.errors import OutOfMemory
from tests.baselines.fitting import as_shares, fitted_to, some_reads


def similarities(reads: np.ndarray, kind: str, shrinkage: float) -> np.ndarray:
    """``(items, items)`` by loops over pairs of items, in float64."""
    count, popularity = reads.shape[1], reads.sum(0)
    rare = np.array([np.log(count / (1 + row.sum())) for row in reads])
    long = popularity / popularity.mean()
    found = np.zeros((count, count))
    for one in range(count):
        for other in range(count):
            both = [u for u in range(len(reads)) if reads[u, one] and reads[u, other]]
            if not both:
                continue
            weights = np.ones(len(reads)) if kind == "cosine" else rare
            value = sum(weights[u] ** 2 for u in both)
            if kind == "bm25":
                for item in (one, other):
                    value *= 2.2 / (1.2 * (0.25 + 0.75 * long[item]) + 1)
            else:
                for item in (one, other):
                    norm = sum(weights[u] ** 2 for u in range(len(reads)) if reads[u, item])
                    value /= np.sqrt(norm)
            found[one, other] = value * len(both) / (len(both) + shrinkage)
    return found


@pytest.mark.parametrize("kind", ["cosine", "tfidf", "bm25"])
@pytest.mark.parametrize("shrinkage", [0.0, 5.0])
@pytest.mark.parametrize("k", [None, 3])
def test_scores_are_mean_similarities_with_the_history(
    kind: Any, shrinkage: float, k: int | None
) -> None:
    reads, histories = some_reads(1), some_reads(2)
    similar = similarities(reads, kind, shrinkage)
    if k is not None:
        for row in similar:
            row[np.argsort(-row, kind="stable")[k:]] = 0
    expected = as_shares(histories).toarray() @ similar.T
    method = ItemKNN(ItemKNNConfig(similarity=kind, shrinkage=shrinkage, k=k))
    found = method.fit(fitted_to(reads))(as_shares(histories))
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 9))
def test_the_strongest_are_a_stable_sort_of_each_row(seed: int, count: int) -> None:
    rows = np.random.default_rng(seed).integers(0, 4, (6, 8)).astype(float)  # ties and zeros
    expected = rows.copy()
    for row in expected:
        row[np.argsort(-row, kind="stable")[count:]] = 0
    assert np.array_equal(strongest(sparse.csr_matrix(rows), count).toarray(), expected)


def test_all_similarities_of_a_large_catalogue_are_refused_the_nearest_are_not() -> None:
    reads = np.ones((30, 200))
    message = r"200 x 200 items takes 320,000 bytes .* give k: 200"
    with pytest.raises(OutOfMemory, match=message):
        ItemKNN(ItemKNNConfig(max_gib=1e-4)).fit(fitted_to(reads))
    ItemKNN(ItemKNNConfig(max_gib=1e-4, k=5)).fit(fitted_to(reads))
