"""A softmax over a table in chunks equals the whole one."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from legos.blocks.linear_cross_entropy import linear_cross_entropy
from tests.bricks import ragged


@pytest.mark.parametrize("max_logits", [1, 40, 131, 10**6])
@pytest.mark.parametrize("targets", [[[3], [0], [12], [5], [5]], [[1, 4, 4], [], [0], [2, 3], []]])
def test_chunks_equal_the_whole(targets: list[list[int]], max_logits: int) -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(5, 8, generator=generator)
    table = torch.randn(13, 8, generator=generator)
    s, t = states.clone().requires_grad_(), table.clone().requires_grad_()
    total, rows = linear_cross_entropy(s, t, ragged(targets), max_logits=max_logits)
    (total * 0.3).backward()
    whole, other = states.clone().requires_grad_(), table.clone().requires_grad_()
    likely = (whole @ other.T).log_softmax(1)
    expected = torch.stack([-likely[row, wanted].sum() for row, wanted in enumerate(targets)])
    (expected.sum() * 0.3).backward()
    torch.testing.assert_close(rows, expected.detach())
    torch.testing.assert_close(total, expected.sum())
    torch.testing.assert_close(s.grad, whole.grad)
    torch.testing.assert_close(t.grad, other.grad)


def test_half_precision_and_a_frozen_table() -> None:
    table = torch.randn(13, 8)
    states = torch.randn(4, 8, requires_grad=True)
    targets = ragged([[0], [1], [2], [3]])
    linear_cross_entropy(states, table, targets, max_logits=99).total.backward()
    assert table.grad is None
    assert states.grad is not None
    with torch.autocast("cpu", torch.bfloat16):
        near = linear_cross_entropy(states, table, targets, max_logits=99).total
    exact = functional.cross_entropy(states @ table.T, torch.arange(4), reduction="sum")
    assert near.dtype == torch.float32
    assert 0 < float((near - exact).detach().abs()) < 0.05 * float(exact.detach())


def test_losses_of_far_targets_are_exact() -> None:
    states = torch.tensor([[1.0], [200.0], [90.0]])
    total, rows = linear_cross_entropy(
        states, torch.tensor([[0.0], [1.0]]), ragged([[0, 1], [0], [0, 1]]), max_logits=99
    )
    expected = [1.313262 + 0.313262, 200.0, 90.0]
    assert rows.tolist() == pytest.approx(expected, rel=1e-6)
    assert float(total) == pytest.approx(sum(expected), rel=1e-6)


def test_no_rows_reach_the_gradients() -> None:
    states, table = torch.randn(0, 8, requires_grad=True), torch.randn(13, 8, requires_grad=True)
    linear_cross_entropy(states, table, ragged([]), max_logits=99).total.backward()
    assert table.grad is not None
    assert not table.grad.any()
