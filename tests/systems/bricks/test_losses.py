"""Losses: values by hand, masks, and exact sums over micro-batches."""

from __future__ import annotations

import math

import pytest
import torch

from legos.data.batch import Drawn
from legos.errors import ConfigError
from legos.systems.bricks.losses import LOSSES, LossSettings, positive_power, row_losses

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
    found = row_losses("cosine_contrastive", cosines, cosines * 0, mask, LossSettings(0.25, 6.0))
    # 1 - 0.5 + 6 (0.5 + 0 + 0.25) / 3, and 1 - 1 + 6 (0 + 0) / 2
    assert found.tolist() == [2.0, 0.0]
    usual = row_losses("cosine_contrastive", cosines, cosines * 0, mask)
    assert usual.tolist() == [0.5, 0.0]  # margin 0.9


def test_gbce_raises_the_probability_of_the_click_to_a_power() -> None:
    # 2 of 8 other items: α = 1/4; t = 0.5: β = (0.5 (1 - 4) + 4) / 4 = 0.625
    drawn, settings = Drawn(rate=0.25), LossSettings(calibration=0.5)
    found = row_losses("gbce", SCORES, LABELS, FULL, settings, drawn)
    others = math.log(1 - sigmoid(0)) + math.log(1 - sigmoid(-1))
    assert found[0].item() == pytest.approx(-(0.625 * math.log(sigmoid(1)) + others) / 3)


@pytest.mark.parametrize(
    ("rate", "calibration", "power"),
    [
        (0.25, 0.0, 1.0),
        (0.25, 1.0, 0.25),
        (0.25, 0.5, 0.625),
        (1.0, 0.3, 1.0),
        (0.01, 0.75, 0.2575),
    ],
)
def test_the_power_falls_from_1_to_the_sampling_rate(
    rate: float, calibration: float, power: float
) -> None:
    assert positive_power(rate, calibration) == pytest.approx(power)


@pytest.mark.parametrize(("rate", "calibration"), [(0.01, 0.0), (1.0, 0.75)])
def test_gbce_without_calibration_or_with_all_items_is_bce(rate: float, calibration: float) -> None:
    settings = LossSettings(calibration=calibration)
    found = row_losses("gbce", SCORES, LABELS, FULL, settings, Drawn(rate))
    torch.testing.assert_close(found, row_losses("bce", SCORES, LABELS, FULL))


def test_gbce_is_the_authors_transform_of_the_click_before_bce() -> None:
    """Petrov and Macdonald's code, in float64, where it neither overflows nor is clamped."""
    scores = torch.linspace(-4, 4, 9, dtype=torch.float64)[:, None].repeat(1, 3)
    labels, mask = torch.tensor([[1.0, 0.0, 0.0]]).expand(9, 3), FULL[:1].expand(9, 3)
    power = positive_power(0.1, 0.75)
    click = (1 / (torch.sigmoid(scores[:, :1]).pow(-power) - 1)).log()
    expected = row_losses("bce", torch.cat([click, scores[:, 1:]], 1), labels, mask)
    found = row_losses("gbce", scores, labels, mask, LossSettings(calibration=0.75), Drawn(0.1))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("score", [-500.0, 500.0])
def test_gbce_of_extreme_scores_is_finite(score: float) -> None:
    scores = torch.full((1, 3), score, requires_grad=True)
    loss = row_losses("gbce", scores, LABELS[:1], FULL[:1], drawn=Drawn(1e-6)).sum()
    (gradient,) = torch.autograd.grad(loss, scores)
    assert loss.isfinite()
    assert gradient.isfinite().all()


def test_sampled_softmax_counts_a_draw_by_how_often_it_was_expected() -> None:
    counts = torch.tensor([0.5, 2.0])
    found = row_losses("sampled_softmax", SCORES, LABELS, FULL, drawn=Drawn(0.1, counts.log()))
    total = math.exp(1) + math.exp(0) / 0.5 + math.exp(-1) / 2.0
    assert found[0].item() == pytest.approx(math.log(total) - 1)


def test_sampled_softmax_of_every_other_item_once_is_the_full_softmax() -> None:
    found = row_losses("sampled_softmax", SCORES, LABELS, FULL, drawn=Drawn())
    torch.testing.assert_close(found, row_losses("softmax", SCORES, LABELS, FULL))


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
