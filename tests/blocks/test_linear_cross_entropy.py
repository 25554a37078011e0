"""A softmax over a table in chunks equals the whole one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
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


@pytest.mark.parametrize("max_logits", [14, 40, 10**6])
@pytest.mark.parametrize("states_kind", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
def test_a_table_learns_in_half_precision(
    states_kind: torch.dtype, autocast: bool, max_logits: int
) -> None:
    if states_kind == torch.float32 and not autocast:
        pytest.skip("full precision: test_chunks_equal_the_whole")
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(4, 8, generator=generator).to(states_kind).requires_grad_()
    table = torch.randn(13, 8, generator=generator).requires_grad_()
    targets = [[0, 7], [1], [2], [3, 3]]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        total = linear_cross_entropy(states, table, ragged(targets), max_logits=max_logits).total
    gradients = torch.autograd.grad(total, [states, table])
    exact = states.detach().float().requires_grad_()
    likely = (exact @ table.T).log_softmax(1)
    loss = torch.stack([-likely[row, wanted].sum() for row, wanted in enumerate(targets)]).sum()
    assert total.dtype == torch.float32
    assert float(total.detach()) == pytest.approx(float(loss.detach()), rel=0.02)
    wanted = torch.autograd.grad(loss, [exact, table])
    for own, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(own.float(), other, rtol=0.05, atol=0.05)


def test_losses_of_far_targets_are_exact() -> None:
    states = torch.tensor([[1.0], [200.0], [90.0]])
    total, rows = linear_cross_entropy(
        states, torch.tensor([[0.0], [1.0]]), ragged([[0, 1], [0], [0, 1]]), max_logits=99
    )
    expected = [1.313262 + 0.313262, 200.0, 90.0]
    assert rows.tolist() == pytest.approx(expected, rel=1e-6)
    assert float(total) == pytest.approx(sum(expected), rel=1e-6)


@given(
    seed=st.integers(0, 999),
    states_scale=st.floats(1e-3, 60),
    table_scale=st.floats(1e-3, 60),
    max_logits=st.sampled_from([7, 50, 999]),
)
def test_norms_of_any_size_give_the_whole_softmax(
    seed: int, states_scale: float, table_scale: float, max_logits: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(6, 4, generator=generator) * states_scale
    table = torch.randn(11, 4, generator=generator) * table_scale
    states[0, 2:], table[:, :2] = 0, 0  # no logit of this row is near the product of norms
    targets = torch.randint(11, (6,), generator=generator)
    states.requires_grad_(), table.requires_grad_()
    found = linear_cross_entropy(
        states, table, ragged(targets[:, None].tolist()), max_logits=max_logits
    )
    gradients = torch.autograd.grad(found.total, [states, table])
    exact = functional.cross_entropy(states.double() @ table.double().T, targets, reduction="none")
    torch.testing.assert_close(found.rows.double(), exact.detach(), rtol=2e-5, atol=2e-4)
    expected = torch.autograd.grad(exact.sum(), [states, table])
    for own, other, size in zip(gradients, expected, (table_scale, states_scale), strict=True):
        torch.testing.assert_close(own, other, rtol=2e-3, atol=2e-3 * size)


def test_a_row_that_no_vector_meets_is_uniform() -> None:
    states, table = torch.tensor([[40.0, 0.0]]), torch.tensor([[0.0, 30.0]] * 5)
    found = linear_cross_entropy(states, table, ragged([[2]]), max_logits=99)
    assert float(found.total) == pytest.approx(1.609438, rel=1e-6)  # log 5, below a bound of 1,200


def test_no_rows_reach_the_gradients() -> None:
    states, table = torch.randn(0, 8, requires_grad=True), torch.randn(13, 8, requires_grad=True)
    linear_cross_entropy(states, table, ragged([]), max_logits=99).total.backward()
    assert table.grad is not None
    assert not table.grad.any()


def test_a_second_backward_pass_is_refused() -> None:
    states = torch.randn(2, 8, requires_grad=True)
    total = linear_cross_entropy(states, torch.randn(5, 8), ragged([[0], [1]]), max_logits=9).total
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="one backward pass"):
        total.backward()
