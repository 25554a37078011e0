"""A mixture of expert projections is UniSRec's equations 2 to 4."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from legos.blocks.experts import ExpertProjections, ProjectionSettings
from legos.blocks.mlp import MLP
from tests.item.padded import numbers

E, D, K = 5, 3, 4


def built() -> ExpertProjections:
    torch.manual_seed(0)
    module = ExpertProjections(E, D, count=K).double().eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def test_the_gate_mixes_shifted_projections() -> None:
    module, values = built(), torch.randn(6, E, dtype=torch.float64)
    shift, weight, gate = map(numbers, (module.shift, module.weight, module.gate))
    expected = []
    for row in numbers(values):
        scores = np.exp(gate @ row)
        experts = [(row - shift[k]) @ weight[k].T for k in range(K)]
        expected.append(sum(s / scores.sum() * x for s, x in zip(scores, experts, strict=True)))
    np.testing.assert_allclose(numbers(module(values)), np.stack(expected), rtol=0, atol=1e-12)


def test_gates_are_noisy_while_training_and_only_then() -> None:
    module, values = built(), torch.randn(6, E, dtype=torch.float64)
    assert torch.equal(module(values), module(values))
    module.train()
    first, second = module(values), module(values)
    assert not torch.allclose(first, second)
    module(values).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_one_expert_without_a_shift_is_a_linear_layer() -> None:
    module = ExpertProjections(E, D, count=1).eval()
    values = torch.randn(6, E)
    torch.testing.assert_close(module(values), values @ module.weight[0].T)


def test_experts_or_hidden_layers() -> None:
    assert isinstance(ProjectionSettings().projection(E, D, dropout=0.1), MLP)
    found = ProjectionSettings(experts=2).projection(E, D, dropout=0.1)
    assert isinstance(found, ExpertProjections)
    assert len(found.shift) == 2
    with pytest.raises(ValidationError, match="experts and hidden_sizes: a mixture"):
        ProjectionSettings(experts=2, hidden_sizes=(4,))
