"""CAUM's user encoder against loops over its equations, one candidate and one item at a time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from legos.errors import ConfigError
from legos.user.caum import CAUMConfig
from tests.bricks import user_input
from tests.user.built import built

CONFIG = CAUMConfig(num_heads=2, kernel_size=3, num_filters=6, attention_sizes=(5, 4))


def related(module: nn.Module, items: Tensor, candidate: Tensor) -> Tensor:
    """Candidate-aware self-attention: ``(n, D)`` and ``(D,)`` -> ``(n, D)``."""
    attention = module.self_attention
    keys, candidate_keys, values = (attention.project.weight @ items.T).T.chunk(3, 1)
    queries = items @ attention.item_query.weight.T
    candidate_query = attention.candidate_query.weight @ candidate
    width = items.shape[1] // attention.num_heads
    heads = []
    for head in range(attention.num_heads):
        part = slice(head * width, (head + 1) * width)
        rows = []
        for query in queries[:, part]:
            logits = keys[:, part] @ query + candidate_keys[:, part] @ candidate_query[part]
            rows.append((logits / math.sqrt(width)).softmax(0) @ values[:, part])
        heads.append(torch.stack(rows))
    return torch.cat(heads, 1)


def local(module: nn.Module, items: Tensor, candidate: Tensor) -> Tensor:
    """Candidate-aware CNN: a linear layer over each window and the candidate."""
    kernel = module.cnn.window.weight.shape[2]
    reach = kernel // 2
    rows = []
    for place in range(len(items)):
        value = module.cnn.window.bias + module.cnn.candidate.weight @ candidate
        for tap in range(kernel):
            neighbour = place + tap - reach
            if 0 <= neighbour < len(items):
                value = value + module.cnn.window.weight[:, :, tap] @ items[neighbour]
        rows.append(value)
    return torch.stack(rows)


def expected(module: nn.Module, items: Tensor, candidate: Tensor) -> Tensor:
    if len(items) == 0:
        return torch.zeros_like(candidate)
    both = torch.cat([local(module, items, candidate), related(module, items, candidate)], 1)
    joined = both @ module.join.weight.T + module.join.bias
    pairs = torch.cat([joined, candidate.expand_as(joined)], 1)
    first, _, second, _, last = module.weigh
    hidden = torch.tanh(pairs @ first.weight.T + first.bias)
    hidden = torch.tanh(hidden @ second.weight.T + second.bias)
    return (hidden @ last.weight[0]).softmax(0) @ joined


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_it_equals_the_equations_of_every_candidate(kernel_size: int) -> None:
    module = built(CONFIG.model_copy(update={"kernel_size": kernel_size}))
    given = user_input()
    found = given(module)
    for row, length in enumerate(given.mask.sum(1).tolist()):
        for column in range(5):
            candidate = given.users.candidates[row, column]
            wanted = expected(module, given.history[row, :length], candidate)
            torch.testing.assert_close(found[row, column], wanted, rtol=0, atol=1e-12)


def test_it_drops_while_training_alone() -> None:
    module, given = built(CONFIG), user_input()
    assert torch.equal(given(module), given(module))
    torch.manual_seed(0)
    module.train()
    assert not torch.allclose(given(module), given(module))


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("num_heads", 3, r"num_heads 3 does not divide hidden_size 16; choose one of \[1, 2, 4, 8"),
        ("kernel_size", 4, "kernel_size 4 is even.*choose 3 or 5"),
    ],
)
def test_what_does_not_fit_is_refused(setting: str, value: int, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"model.user \(caum\): {message}"):
        built(CONFIG.model_copy(update={setting: value}))
