"""DIN's attention against the concatenation of all pairs, one pair at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from legos.blocks.attention import TargetAttention, TargetAttentionSettings
from legos.blocks.mlp import Activation

SIZE = 5
LENGTHS = (0, 1, 4, 6)


def given() -> tuple[Tensor, Tensor, Tensor]:
    history = torch.randn(len(LENGTHS), 6, SIZE, dtype=torch.float64)
    candidates = torch.randn(len(LENGTHS), 3, SIZE, dtype=torch.float64)
    return history, candidates, torch.arange(6) < torch.tensor(LENGTHS)[:, None]


def block(activation: Activation, *, softmax: bool) -> TargetAttention:
    settings = TargetAttentionSettings(
        attention_sizes=(7, 4), activation=activation, softmax=softmax
    )
    module = TargetAttention(settings, hidden_size=SIZE)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    for name, buffer in module.named_buffers():
        torch.nn.init.uniform_(buffer, 0.5, 1.5 if name.endswith("variance") else 0.7)
    return module.double().eval()


def act(activation: torch.nn.Module, value: Tensor) -> Tensor:
    kind = type(activation).__name__
    if kind == "ReLU":
        return value.clamp(min=0)
    if kind == "PReLU":
        return value.clamp(min=0) + activation.slope * value.clamp(max=0)
    gate = 1 / (1 + torch.exp(-(value - activation.mean) / (activation.variance + 1e-8).sqrt()))
    return gate * value + (1 - gate) * activation.slope * value


def weight_of(module: TargetAttention, item: Tensor, candidate: Tensor) -> Tensor:
    """The activation unit of figure 2 for one pair."""
    value = torch.cat([item, candidate, item - candidate, item * candidate])
    value = module.first.weight @ value + module.first.bias
    for activation, linear in zip(module.rest.activations, module.rest.linears, strict=True):
        value = linear.weight @ act(activation, value)
        value = value if linear.bias is None else value + linear.bias
    return value[0]


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("activation", ["dice", "prelu", "relu"])
def test_it_equals_the_mlp_over_every_pair(activation: Activation, softmax: bool) -> None:
    module, (history, candidates, mask) = block(activation, softmax=softmax), given()
    found = module(history, candidates, mask)
    for row, length in enumerate(LENGTHS):
        for column in range(3):
            expected = torch.zeros(SIZE, dtype=torch.float64)
            items = history[row, :length]
            if length:
                weights = torch.stack(
                    [weight_of(module, item, candidates[row, column]) for item in items]
                )
                expected = (weights.softmax(0) if softmax else weights) @ items
            torch.testing.assert_close(found[row, column], expected, rtol=0, atol=1e-12)


def test_weights_need_not_sum_to_one_unless_told() -> None:
    _, candidates, mask = given()
    ones = torch.ones(len(LENGTHS), 6, SIZE, dtype=torch.float64)
    read = torch.tensor(LENGTHS) > 0
    summed = block("dice", softmax=True)(ones, candidates, mask)[read]
    torch.testing.assert_close(summed, torch.ones_like(summed))
    free = block("dice", softmax=False)(ones, candidates, mask)[read]
    assert not torch.isclose(free, torch.ones_like(free)).any()


def test_padding_takes_no_part_in_the_statistics_of_dice() -> None:
    history, candidates, mask = given()
    garbage = torch.where(mask[..., None], history, 1e3)
    one, other = block("dice", softmax=False).train(), block("dice", softmax=False).train()
    other.load_state_dict(one.state_dict())
    torch.testing.assert_close(one(history, candidates, mask), other(garbage, candidates, mask))
    for (_, left), (_, right) in zip(one.named_buffers(), other.named_buffers(), strict=True):
        torch.testing.assert_close(left, right)
