"""What the transcriptions of the papers' equations share: numpy, one user and candidate a call."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from legos.recommender import build_brick
from legos.registry import PredictorConfig, predictors

Array = npt.NDArray[np.float64]
SIZE = 6  # D


def built(config: PredictorConfig, *, seed: int = 0) -> nn.Module:
    """A predictor in float64 and evaluation mode, no bias at zero and no norm at one."""
    module = build_brick(predictors, config, {"hidden_size": SIZE})
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5, generator=generator)
    return module.double().eval()


def vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, SIZE, generator=generator, dtype=torch.float64)


def assert_scores(module: nn.Module, score: Callable[[Array, Array], float]) -> None:
    """One user for all candidates, and one for each, are scored as the transcription says."""
    candidates = vectors(3, 5, seed=1)
    for users in (1, 5):
        user = vectors(3, users)
        expected = [
            [
                score(user[row, column % users].numpy(), candidates[row, column].numpy())
                for column in range(5)
            ]
            for row in range(3)
        ]
        found = module(user, candidates).detach().numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-10)


def number(parameter: torch.Tensor) -> Array:
    return parameter.detach().numpy()


def linear(layer: nn.Module, values: Array) -> Array:
    """``W x + b``."""
    result: Array = number(layer.weight) @ values
    return result if layer.bias is None else result + number(layer.bias)


def relu(values: Array) -> Array:
    return np.maximum(values, 0)


def sigmoid(values: Array) -> Array:
    return 1 / (1 + np.exp(-values))


def softmax(values: Array) -> Array:
    weights = np.exp(values)
    return weights / weights.sum()


def hidden(layers: Iterable[nn.Module], values: Array) -> Array:
    """Every linear layer of a stack with a ReLU."""
    for layer in layers:
        if isinstance(layer, nn.Linear):
            values = relu(linear(layer, values))
    return values


def perceptron(layers: Iterable[nn.Module], values: Array) -> Array:
    """A stack whose last linear layer has no ReLU."""
    *before, last = layers
    return linear(last, hidden(before, values))
