"""Losses: values by hand, masks, and exact sums over micro-batches."""

from __future__ import annotations

import math

import pytest
import torch

from legos.errors import ConfigError
from legos.systems.bricks.losses import LOSSES, Contrast, row_losses

SCORES = torch.tensor([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]])
LABELS = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
FULL = torch.ones(2, 3, dtype=torch.bool)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_softmax_is_the_log_share_of_the_click() -> None:
    expected = -math.log(math.exp(1) / (math.exp(1) + 1 + math.exp(-1)))
    assert row_losses("softmax", SCORES, LABELS, FULL)[0].item() == pytest.approx(expected)


def test_bce_is_the_mean_over_the_candidates() -> None:
    expected = -(math.log(sigmoid(1)) + math.log(1 - sigmoid(0)) + math.log(1 - sigmoid(-1))) / 3
    assert row_losses("bce", SCORES, LABELS, FULL)[0].item() == pytest.approx(expected)


def test_bpr_compares_the_click_with_every_negative() -> None:
    expected = -(math.log(sigmoid(1)) + math.log(sigmoid(2))) / 2
    assert row_losses("bpr", SCORES, LABELS, FULL)[0].item() == pytest.approx(expected)


def test_cosine_contrastive_counts_negatives_above_the_margin() -> None:
    cosines = torch.tensor([[0.5, 0.75, -0.5, 0.5], [1.0, 0.0, 0.25, 0.0]])
    mask = torch.tensor([[True, True, True, True], [True, True, True, False]])
    found = row_losses("cosine_contrastive", cosines, cosines * 0, mask, Contrast(0.25, 6.0))
    # 1 - 0.5 + 6 (0.5 + 0 + 0.25) / 3, and 1 - 1 + 6 (0 + 0) / 2
    assert found.tolist() == [2.0, 0.0]
    usual = row_losses("cosine_contrastive", cosines, cosines * 0, mask)
    assert usual.tolist() == [0.5, 0.0]  # margin 0.9


@pytest.mark.parametrize("name", LOSSES)
def test_masked_candidates_do_not_count(name: str) -> None:
    mask = FULL.clone()
    mask[:, 2] = False
    changed = SCORES.clone()
    changed[:, 2] = 9.0
    expected = row_losses(name, SCORES[:, :2], LABELS[:, :2], FULL[:, :2])
    torch.testing.assert_close(row_losses(name, changed, LABELS, mask), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_a_row_without_negatives_has_a_finite_loss_and_gradient(name: str) -> None:
    mask = torch.tensor([[True, False, False]])
    scores = SCORES[:1].clone().requires_grad_()
    loss = row_losses(name, scores, LABELS[:1], mask).sum()
    loss.backward()
    assert loss.isfinite()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_scores_give_float32_losses(name: str) -> None:
    assert row_losses(name, SCORES.bfloat16(), LABELS, FULL).dtype == torch.float32


def test_an_unknown_loss_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'softmax'"):
        row_losses("softmx", SCORES, LABELS, FULL)
