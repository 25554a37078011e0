from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from legos.baselines.ials import IALS, IALSConfig, _solve_by_entries, _solve_by_factors
from tests.baselines.fitting import as_shares, fitted_to, some_reads

SETTINGS = IALSConfig(factors=5, iterations=3, unobserved=0.2, l2=0.05, scale=0.7)


def loss(reads: np.ndarray, users: np.ndarray, items: np.ndarray) -> float:
    """Equation 1 of Rendle et al. 2022 with the regularisation of equation 3, by loops."""
    total = 0.0
    for user in range(len(users)):
        for item in range(len(items)):
            score = users[user] @ items[item]
            total += 0.2 * score**2 + (reads[user, item] * (score - 1)) ** 2
    for vectors, matrix in ((users, reads), (items, reads.T)):
        for vector, row in zip(vectors, matrix, strict=True):
            total += 0.05 * (row.sum() + 0.2 * matrix.shape[1]) ** 0.7 * (vector @ vector)
    return total


def test_every_row_is_at_the_minimum_of_the_loss() -> None:
    """Its gradient by users is 0, found by central differences in float64."""
    reads = some_reads(1, users=7, items=9, share=0.4)
    items = np.random.default_rng(0).normal(size=(9, 5))
    matrix = sparse.csr_matrix(reads)
    users = IALS(SETTINGS).solved(matrix, torch.from_numpy(items)).numpy()
    step = 1e-5
    for place in np.ndindex(users.shape):
        up, down = users.copy(), users.copy()
        up[place] += step
        down[place] -= step
        gradient = (loss(reads, up, items) - loss(reads, down, items)) / (2 * step)
        assert abs(gradient) < 1e-6


def test_the_loss_falls_with_every_iteration() -> None:
    reads = some_reads(2)
    matrix = sparse.csr_matrix(reads)
    losses = []
    for iterations in (1, 2, 3, 6):
        method = IALS(SETTINGS)
        first = method.first_vectors(matrix.shape[1], torch.float64)
        *_, items = method.iterations(matrix, first, iterations)
        users = method.solved(matrix, items)
        losses.append(loss(reads, users.numpy(), items.numpy()))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


def test_a_history_is_scored_by_its_own_solution() -> None:
    reads, histories = some_reads(3), some_reads(4)
    known = reads.any(0)
    method = IALS(SETTINGS)
    scores = method.fit(fitted_to(reads))(as_shares(histories))
    matrix = sparse.csr_matrix(reads[reads.any(1)][:, known])
    *_, last = method.iterations(matrix, None, SETTINGS.iterations)
    items = last.double().numpy()
    for history, found in zip(histories, scores, strict=True):
        read = items[history[known] > 0]
        weight = 0.05 * (len(read) + 0.2 * len(items)) ** 0.7
        system = read.T @ read + 0.2 * items.T @ items + weight * np.eye(5)
        expected = np.zeros(len(known))
        expected[known] = items @ np.linalg.solve(system, read.sum(0))
        assert np.allclose(found, expected, atol=1e-4)


def test_batches_do_not_matter_and_a_seed_gives_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads = sparse.csr_matrix(some_reads(5))
    items = torch.randn(25, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = IALS(SETTINGS).solved(reads, items)
    monkeypatch.setattr("legos.baselines.ials._NUMBERS_AT_ONCE", 60)
    assert torch.allclose(IALS(SETTINGS).solved(reads, items), whole)
    again = [[*IALS(SETTINGS).iterations(reads, None, 2)][-1] for _ in range(2)]
    assert torch.equal(*again)


@pytest.mark.parametrize("length", [1, 3, 8, 13])
def test_both_ways_to_solve_give_the_solution_of_the_whole_system(length: int) -> None:
    """Systems of as many equations as entries, or as factors, against numpy's in float64."""
    generator = np.random.default_rng(length)
    read, diagonal = generator.normal(size=(6, length, 8)), generator.uniform(0.1, 3, 8)
    expected = [np.linalg.solve(rows.T @ rows + np.diag(diagonal), rows.sum(0)) for rows in read]
    for solve in (_solve_by_entries, _solve_by_factors):
        for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-4)):
            found = solve(*(torch.from_numpy(each).to(dtype) for each in (read, diagonal)))
            assert found.dtype == dtype
            assert np.allclose(found.numpy(), expected, atol=tolerance)
