"""The supervised contrastive loss and z-scores, against their equations written out."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from legos.blocks.contrastive import supervised_contrastive_loss
from legos.blocks.standardised import covariance, deviation, standardised
from tests.bricks import quick


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def written_out(vectors: list[list[float]], labels: list[int], temperature: float) -> float:
    """Khosla et al., equation 2, item by item; the mean over items with another of their label."""
    losses = []
    for i, own in enumerate(vectors):
        others = [j for j in range(len(vectors)) if j != i]
        alike = [j for j in others if labels[j] == labels[i]]

        def similarity(j: int, own: list[float] = own) -> float:
            return sum(a * b for a, b in zip(own, vectors[j], strict=True)) / temperature

        total = math.log(sum(math.exp(similarity(j)) for j in others))
        if alike:
            losses.append(sum(total - similarity(j) for j in alike) / len(alike))
    return sum(losses) / max(1, len(losses))


@pytest.mark.parametrize("labels", [[1, 1, 2, 2, 2, 3], [1, 1, 1, 1, 1, 1], [1, 2, 3, 4, 5, 6]])
def test_the_contrastive_loss_is_its_equation(labels: list[int]) -> None:
    vectors = random(6, 4)
    found = supervised_contrastive_loss(vectors, torch.tensor(labels), 0.9)
    assert float(found) == pytest.approx(written_out(vectors.tolist(), labels, 0.9), rel=1e-12)


def test_the_contrastive_loss_of_three_by_hand() -> None:
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    # each of the first two: -log(e / (e + 1)); the third has nothing to be alike to
    expected = math.log(1 + math.exp(-1))
    found = supervised_contrastive_loss(vectors, torch.tensor([7, 7, 9]), 1.0)
    assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_without_pairs_the_contrastive_loss_is_zero_with_a_finite_gradient(count: int) -> None:
    vectors = random(count, 3).requires_grad_()
    loss = supervised_contrastive_loss(vectors, torch.arange(count), 0.9)
    loss.backward()
    assert float(loss.detach()) == 0
    assert vectors.grad is not None
    assert torch.isfinite(vectors.grad).all()


@quick
@given(st.integers(2, 12), st.integers(0, 1000))
def test_the_contrastive_loss_ignores_order_and_names_of_labels(count: int, seed: int) -> None:
    vectors, labels = random(count, 3, seed=seed), torch.arange(count) % 3
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    before = supervised_contrastive_loss(vectors, labels, 0.5)
    after = supervised_contrastive_loss(vectors[order], 10 - 3 * labels[order], 0.5)
    torch.testing.assert_close(before, after, rtol=1e-12, atol=1e-12)


def test_z_scores_are_those_of_a_sample_over_what_is_offered() -> None:
    scores = torch.tensor([[1.0, 2.0, 6.0, 99.0], [5.0, 5.0, 5.0, 1.0]], dtype=torch.float64)
    offered = torch.tensor([[True, True, True, False], [True, True, True, False]])
    found = standardised(scores, offered)
    root = statistics.stdev([1, 2, 6])
    expected = [(1 - 3) / root, (2 - 3) / root, (6 - 3) / root, 0]
    assert found[0].tolist() == pytest.approx(expected)
    assert found[1].tolist() == [0, 0, 0, 0]  # all alike: nothing to tell apart


@pytest.mark.parametrize("count", [0, 1])
def test_z_scores_of_one_candidate_or_none_are_zero(count: int) -> None:
    offered = torch.arange(3) < count
    assert standardised(random(3), offered).tolist() == [0, 0, 0]


def test_the_deviation_by_covariance_is_that_of_all_products() -> None:
    users, items = random(4, 5), random(30, 5, seed=1)
    found = deviation(users, covariance(items))[:, 0]
    torch.testing.assert_close(found, (users @ items.mT).std(1), rtol=1e-12, atol=1e-12)
    assert deviation(users[:1] * 0, covariance(items)).tolist() == [[1]]
