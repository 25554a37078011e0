"""Predictors against loops over pairs."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from legos.blocks.mlp import MLP
from legos.predictor.dot import Dot, DotConfig
from legos.predictor.mlp import MLPConfig, MLPPredictor


def vectors() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(3, 1, 4, dtype=torch.float64), torch.randn(3, 5, 4, dtype=torch.float64)


def test_dot_is_the_inner_product() -> None:
    user, candidates = vectors()
    scores = Dot(DotConfig())(user, candidates)
    for row in range(3):
        for column in range(5):
            expected = sum(user[row, 0, d] * candidates[row, column, d] for d in range(4))
            assert scores[row, column].item() == pytest.approx(float(expected))


def test_dot_has_nothing_to_learn() -> None:
    assert list(Dot(DotConfig()).parameters()) == []


def test_mlp_scores_the_user_beside_the_candidate() -> None:
    user, candidates = vectors()
    predictor = MLPPredictor(MLPConfig(hidden_sizes=(6, 3)), hidden_size=4).double().eval()
    first, _, _, second, _, _, last = predictor.mlp
    scores = predictor(user, candidates)
    for row in range(3):
        for column in range(5):
            pair = torch.cat([user[row, 0], candidates[row, column]])
            hidden = (first.weight @ pair + first.bias).clamp(min=0)
            hidden = (second.weight @ hidden + second.bias).clamp(min=0)
            expected = last.weight[0] @ hidden + last.bias[0]
            torch.testing.assert_close(scores[row, column], expected)


@pytest.mark.parametrize("hidden_sizes", [(), (8,), (8, 8, 8)])
def test_mlp_has_as_many_layers_as_told(hidden_sizes: tuple[int, ...]) -> None:
    layers = MLP(5, hidden_sizes, 2, dropout=0.1)
    sizes = [
        (layer.in_features, layer.out_features) for layer in layers if isinstance(layer, nn.Linear)
    ]
    widths = [5, *hidden_sizes, 2]
    assert sizes == list(itertools.pairwise(widths))
    assert layers(torch.zeros(3, 5)).shape == (3, 2)


def test_mlp_drops_while_training_alone() -> None:
    user, candidates = vectors()
    predictor = MLPPredictor(MLPConfig(hidden_sizes=(64,), dropout=0.5), hidden_size=4).double()
    torch.manual_seed(0)
    assert not torch.equal(predictor(user, candidates), predictor(user, candidates))
    predictor.eval()
    assert torch.equal(predictor(user, candidates), predictor(user, candidates))
