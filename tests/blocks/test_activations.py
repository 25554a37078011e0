"""Dice against torch's batch normalisation over the real positions; PReLU against torch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from legos.blocks.mlp import ActivatedLayers, Dice, PReLU

SIZE = 4


@pytest.fixture
def dice() -> Dice:
    torch.manual_seed(0)
    module = Dice(size=SIZE).double()
    nn.init.normal_(module.slope)
    return module


def values(*shape: int) -> Tensor:
    return 3 + 2 * torch.randn(*shape, SIZE, dtype=torch.float64)


def reference(norm: nn.BatchNorm1d, slope: Tensor, rows: Tensor) -> Tensor:
    """Equation 3 of the paper: ``p(s) s + (1 - p(s)) a s``, p a sigmoid of the standardised s."""
    gate = torch.sigmoid(norm(rows))
    return gate * rows + (1 - gate) * slope * rows


def normalisation() -> nn.BatchNorm1d:
    return nn.BatchNorm1d(SIZE, eps=1e-8, affine=False).double()


def test_dice_in_training_is_batch_normalisation_of_the_real_positions(dice: Dice) -> None:
    given, mask = values(5, 6), torch.rand(5, 6) < 0.6
    found = dice(given, mask)
    torch.testing.assert_close(
        found[mask], reference(normalisation(), dice.slope, given[mask]), rtol=0, atol=1e-12
    )
    assert torch.equal(dice(torch.where(mask[..., None], given, 1e3), mask)[mask], found[mask])


def test_dice_without_a_mask_takes_all_positions_as_real(dice: Dice) -> None:
    given = values(5, 6)
    expected = reference(normalisation(), dice.slope, given.flatten(0, 1)).view_as(given)
    torch.testing.assert_close(dice(given), expected, rtol=0, atol=1e-12)


def test_dice_in_evaluation_uses_the_running_statistics(dice: Dice) -> None:
    mask = torch.rand(50, 6) < 0.6
    seen = [values(50, 6) for _ in range(100)]
    for batch in seen:
        dice(batch, mask)
    everything = torch.cat([batch[mask] for batch in seen])
    torch.testing.assert_close(dice.mean, everything.mean(0), rtol=0.02, atol=0)
    torch.testing.assert_close(dice.variance, everything.var(0), rtol=0.05, atol=0)
    norm = normalisation().eval()
    norm.running_mean, norm.running_var = dice.mean.clone(), dice.variance.clone()
    given = values(3)
    dice.eval()
    torch.testing.assert_close(dice(given), reference(norm, dice.slope, given), rtol=0, atol=1e-12)
    assert torch.equal(dice(given)[:1], dice(given[:1]))
    assert torch.equal(dice.mean, norm.running_mean)


def test_dice_learns_no_statistics_from_padding_alone(dice: Dice) -> None:
    given = values(2, 3).requires_grad_()
    output = dice(given, torch.zeros(2, 3, dtype=torch.bool))
    output.sum().backward()
    assert torch.equal(dice.mean, torch.zeros_like(dice.mean))
    assert torch.equal(dice.variance, torch.ones_like(dice.variance))
    assert torch.isfinite(output).all()
    assert torch.isfinite(given.grad).all()


def test_dice_keeps_half_precision_though_statistics_are_taken_in_float32(dice: Dice) -> None:
    given = values(64, 8)
    expected = dice(given)
    half = dice.to(torch.bfloat16)(given.to(torch.bfloat16))
    assert half.dtype == torch.bfloat16
    assert (half.double() - expected).norm() < 0.01 * expected.norm()


def test_the_statistics_of_dice_are_part_of_a_checkpoint(dice: Dice) -> None:
    assert set(dice.state_dict()) == {"slope", "mean", "variance"}


def test_prelu_has_a_slope_a_feature_on_the_last_axis() -> None:
    module = PReLU(size=SIZE).double()
    nn.init.normal_(module.slope)
    torchs = nn.PReLU(SIZE).double()
    torchs.weight.data = module.slope.data
    given = values(2, 5) - 3
    assert torch.equal(module(given), torchs(given.flatten(0, 1)).view_as(given))


def test_layers_are_activation_then_linear() -> None:
    layers = ActivatedLayers(sizes=(SIZE, 3, 1), activation="relu", last_bias=False).double()
    first, last = layers.linears
    given = values(2, 5) - 3
    hidden = torch.relu(torch.relu(given) @ first.weight.T + first.bias)
    torch.testing.assert_close(layers(given), hidden @ last.weight.T)
    assert last.bias is None
    assert ActivatedLayers(sizes=(SIZE,), activation="dice")(given) is given
