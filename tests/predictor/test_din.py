"""DIN: the scoring MLP sees interest and candidate; Legommenders' sees the interest alone."""

from __future__ import annotations

import pytest
import torch

from legos.predictor.din import DIN, DINConfig, Variant

LENGTHS = (0, 1, 5)


def predictor(variant: Variant) -> DIN:
    config = DINConfig(
        variant=variant, activation="relu", attention_sizes=(6,), hidden_sizes=(7, 3)
    )
    return DIN(config, hidden_size=4).double().eval()


@pytest.mark.parametrize("variant", ["paper", "legommenders"])
def test_it_is_attention_then_an_mlp(variant: Variant) -> None:
    module = predictor(variant)
    for layer in (module.first, *module.rest.linears[:-1]):
        torch.nn.init.constant_(layer.bias, 2.0)  # no unit is dead, so what is read shows
    history = torch.randn(3, 5, 4, dtype=torch.float64)
    candidates = torch.randn(3, 2, 4, dtype=torch.float64)
    mask = torch.arange(5) < torch.tensor(LENGTHS)[:, None]
    found = module(history, candidates, mask)
    first, (second, last) = module.first, module.rest.linears
    for row, length in enumerate(LENGTHS):
        for column in range(2):
            candidate = candidates[row, column]
            given = module.attention(history[row, None, :5], candidate[None, None], mask[row, None])
            value = given[0, 0]
            assert bool(value.any()) == (length > 0)
            if variant == "paper":
                value = torch.cat([value, candidate])
            value = torch.relu(first.weight @ value + first.bias)
            value = torch.relu(second.weight @ value + second.bias)
            expected = last.weight[0] @ value + last.bias[0]
            torch.testing.assert_close(found[row, column], expected, rtol=0, atol=1e-12)
    assert torch.equal(found[0, 0], found[0, 1]) == (variant == "legommenders")  # read nothing


def test_a_batch_in_training_moves_the_statistics_that_scores_use() -> None:
    module = DIN(DINConfig(), hidden_size=4).double()
    inputs = torch.randn(8, 5, 4).double(), torch.randn(8, 3, 4).double(), torch.rand(8, 5) < 0.7
    before = module.eval()(*inputs)
    module.train()(*inputs)
    assert not torch.allclose(module.eval()(*inputs), before)
