"""Likelihoods against full softmaxes, and what mutual regularisation counts.

| invariant | test |
|---|---|
| which positions are predicted | test_predicted_positions, test_other_positions_do_not_matter, |
|   | test_one_item_has_a_finite_loss |
| mutual regularisation | test_mutual_distance_by_hand, test_mutual_gradients_are_opposite, |
|   | test_user_counts_twice_only_as_in_the_public_code (test_batches) |
| multinomial loss | test_multinomial_by_hand |
"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from legos.systems.cllm4rec.backbone import SoftTables
from legos.systems.cllm4rec.losses import (
    LossParts,
    combine,
    multinomial_likelihood,
    mutual_distance,
    next_token_likelihood,
    predicted_positions,
    prior_penalty,
)
from legos.systems.cllm4rec.settings import MutualSettings
from legos.systems.cllm4rec.tokenizer import Vocabulary
from tests.systems.cllm4rec.small import ragged


@pytest.mark.parametrize(
    ("score_first", "expected"), [(True, [2, 3, 4, 8, 10, 11]), (False, [3, 4, 11])]
)
def test_predicted_positions(score_first: bool, expected: list[int]) -> None:
    tokens = ragged([[1, 2, 3, 4, 5], [6, 7, 8, 9], [1, 2, 3]])  # main texts of 3, 1 and 2
    found = predicted_positions(tokens, torch.tensor([2, 3, 1]), score_first_main=score_first)
    assert found.tolist() == expected


def test_other_positions_do_not_matter() -> None:
    tokens = ragged([[1, 2, 3, 4, 5], [6, 7, 8, 9]])
    positions = predicted_positions(tokens, torch.tensor([2, 2]), score_first_main=False)
    states = torch.randn(9, 4, requires_grad=True)
    table = torch.randn(10, 4)
    loss = next_token_likelihood(states, tokens, positions, table)
    loss.backward()
    assert states.grad is not None
    assert states.grad.abs().sum(1).nonzero()[:, 0].tolist() == [2, 3, 7]
    by_hand = functional.cross_entropy(
        (states @ table.T)[[2, 3, 7]], torch.tensor([4, 5, 9]), reduction="sum"
    )
    assert torch.allclose(loss, by_hand)


def test_one_item_has_a_finite_loss() -> None:
    tokens = ragged([[1, 2, 3]])
    positions = predicted_positions(tokens, torch.tensor([2]), score_first_main=False)
    states = torch.randn(3, 4, requires_grad=True)
    likelihood = next_token_likelihood(states, tokens, positions, torch.randn(10, 4))
    zero = torch.zeros(())
    loss = combine(
        LossParts(likelihood, len(positions), zero, zero), MutualSettings(reduction="public_code")
    )
    loss.backward()
    assert float(loss.detach()) == 0.0


def test_multinomial_by_hand() -> None:
    scores = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 3.0], [1.0, 1.0, 1.0]])
    logp = scores.log_softmax(1)
    by_hand = -(logp[0, 2] + logp[0, 1] + logp[1, 0])
    for rows in ([[2, 1], [0], []], [[1, 2], [0], []]):
        assert torch.allclose(multinomial_likelihood(scores, ragged(rows)), by_hand)


def two(shift: float, width: int = 32) -> tuple[SoftTables, SoftTables]:
    vocabulary = Vocabulary(50, 6, 9)
    own = SoftTables(vocabulary, width=width, std=0.02)
    other = SoftTables(vocabulary, width=width, std=0.02)
    with torch.no_grad():
        for one, two in zip(own.parameters(), other.parameters(), strict=True):
            one.copy_(two + shift)
    return own, other


def test_mutual_distance_by_hand() -> None:
    users, items = torch.tensor([0, 1, 1, 5]), torch.tensor([3] * 20 + [8] * 6)
    equal = mutual_distance(*two(0.0), users, items, reduction="public_code")
    assert float(equal.detach()) == 0.0
    for reduction, counts in (("public_code", 30), ("paper", 30), ("mean_unique", 1)):
        found = mutual_distance(*two(0.1), users, items, reduction=reduction)  # type: ignore[arg-type]
        # the recorded 9.6 of the public code for 30 occurrences
        assert float(found.detach()) == pytest.approx(counts * 32 * 0.01, rel=1e-5)
    none = torch.zeros(0, dtype=torch.int64)
    assert not mutual_distance(*two(0.1), none, none, reduction="mean_unique").detach()


def test_mutual_gradients_are_opposite() -> None:
    collaborative, content = two(0.1)
    users, items = torch.tensor([2]), torch.tensor([4, 4])
    for own, other in ((collaborative, content), (content, collaborative)):
        mutual_distance(own, other, users, items, reduction="paper").backward()
    assert collaborative.item.weight.grad is not None
    assert content.item.weight.grad is not None
    assert torch.allclose(collaborative.item.weight.grad, -content.item.weight.grad)
    assert torch.allclose(collaborative.item.weight.grad[4], torch.tensor(2 * 2 * 0.1))
    assert collaborative.item.weight.grad.abs().sum(1).nonzero()[:, 0].tolist() == [4]


def test_how_a_loss_is_put_together() -> None:
    parts = LossParts(torch.tensor(12.0), 4, torch.tensor(3.0), torch.tensor(5.0))
    settings = {"weight": 2.0, "prior": 0.5}
    paper = MutualSettings(reduction="paper", **settings)
    assert float(combine(parts, paper)) == 12 + 2 / 2 * 3 + 0.5 / 2 * 5
    code = MutualSettings(reduction="public_code", weight=2.0)
    assert float(combine(parts, code)) == 12 / 4 + 2 * 3
    assert float(combine(parts, code, count=6)) == 12 / 6 + 2 * 3
    own, _ = two(0.1)
    squares = prior_penalty(own, torch.tensor([1, 1]), torch.tensor([2]))
    by_hand = 2 * own.user.weight[1].square().sum() + own.item.weight[2].square().sum()
    assert torch.allclose(squares, by_hand)
