"""IISAN's side network against its equations in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from legos.data.items import ItemStore
from legos.data.ragged import Ragged
from legos.errors import ConfigError
from legos.item.iisan import IISAN, IISANConfig
from legos.lm.states import POOLED
from tests.bricks import random_language_model

DEPTH, WIDTH = 2, 8


def brick(layer_step: int = 1) -> IISAN:
    settings = IISANConfig(layer_step=layer_step, adapter_size=3)
    torch.manual_seed(0)
    made = IISAN(settings, language_model=random_language_model(), hidden_size=5)
    torch.nn.init.normal_(made.gates)
    return made.double()


@pytest.mark.parametrize(("layer_step", "layers"), [(1, [0, 1, 2]), (2, [0, 2])])
def test_gated_adapters_over_pooled_layers(layer_step: int, layers: list[int]) -> None:
    made = brick(layer_step)
    pooled = torch.randn(4, DEPTH + 1, WIDTH, dtype=torch.float64)
    store = ItemStore(
        fields={},
        texts={},
        categories={},
        num_items=4,
        language={POOLED: Ragged(pooled.flatten(1), torch.arange(5))},
    )
    found = made(store.batch(torch.tensor([3, 1]))).detach().numpy()
    weights = {name: value.numpy() for name, value in made.state_dict().items()}
    states = pooled.numpy()[[3, 1]][:, layers]
    state = states[:, 0]
    for step in range(len(layers) - 1):
        gate = 1 / (1 + np.exp(-weights["gates"][step]))
        mixed = gate * state + (1 - gate) * states[:, step + 1]
        at = f"adapters.{step}."
        hidden = mixed @ weights[at + "down.weight"].T + weights[at + "down.bias"]
        summed = mixed + np.maximum(hidden, 0) @ weights[at + "up.weight"].T
        summed = summed + weights[at + "up.bias"]
        mean, deviation = summed.mean(1, keepdims=True), summed.std(1, keepdims=True)
        normed = (summed - mean) / np.sqrt(deviation**2 + 1e-5)
        state = normed * weights[at + "norm.weight"] + weights[at + "norm.bias"]
    expected = state @ weights["project.weight"].T + weights["project.bias"]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_step_larger_than_the_model_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"layer_step 3: .* has 2 layers"):
        brick(3)
