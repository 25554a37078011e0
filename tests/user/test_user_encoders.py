"""User encoders against padded transcriptions: NAML's, NRMS's and plain pooling."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from legos.registry import BrickConfig
from legos.user.additive_attention import AdditiveAttentionConfig
from legos.user.pooling import PoolingConfig
from legos.user.self_attention import SelfAttentionConfig
from tests.bricks import HIDDEN_SIZE, random_recommender, random_store
from tests.item.padded import attend, self_attend

LENGTHS = (0, 1, 4, 7)


def encoder(config: BrickConfig) -> torch.nn.Module:
    module = random_recommender(random_store(), user=config).user_encoder.double().eval()
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return module


@pytest.fixture
def history() -> torch.Tensor:
    return torch.randn(len(LENGTHS), 7, HIDDEN_SIZE, dtype=torch.float64)


@pytest.fixture
def mask() -> torch.Tensor:
    return torch.arange(7) < torch.tensor(LENGTHS)[:, None]


def test_naml_is_additive_attention_over_the_history(
    history: torch.Tensor, mask: torch.Tensor
) -> None:
    module = encoder(AdditiveAttentionConfig(attention_size=9))
    expected = attend(module.attention, history.numpy(), mask.numpy())
    found = module(history, mask).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("output_projection", [False, True])
@pytest.mark.parametrize("num_heads", [1, 4, 16])
def test_nrms_is_self_attention_then_additive_attention(
    history: torch.Tensor, mask: torch.Tensor, num_heads: int, output_projection: bool
) -> None:
    module = encoder(
        SelfAttentionConfig(
            num_heads=num_heads, attention_size=9, output_projection=output_projection
        )
    )
    contextual = self_attend(module.self_attention, history.numpy(), mask.numpy())
    expected = attend(module.attention, contextual, mask.numpy())
    found = module(history, mask).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("mode", ["mean", "max"])
def test_pooling_equals_loops(history: torch.Tensor, mask: torch.Tensor, mode: str) -> None:
    found = encoder(PoolingConfig(mode=mode))(history, mask)
    pool = {"mean": torch.mean, "max": torch.amax}[mode]
    for row, length in enumerate(LENGTHS):
        zeros = torch.zeros(HIDDEN_SIZE, dtype=torch.float64)
        expected = pool(history[row, :length], 0) if length else zeros
        torch.testing.assert_close(found[row], expected)


@pytest.mark.parametrize(
    "config",
    [AdditiveAttentionConfig(), SelfAttentionConfig(), PoolingConfig(), PoolingConfig(mode="max")],
    ids=str,
)
def test_nothing_read_is_the_zero_vector(config: BrickConfig, history: torch.Tensor) -> None:
    user = encoder(config)(history, torch.zeros(len(LENGTHS), 7, dtype=torch.bool))
    assert torch.equal(user, torch.zeros(len(LENGTHS), HIDDEN_SIZE, dtype=torch.float64))


def test_attention_tells_histories_of_the_same_mean_apart() -> None:
    history = torch.randn(1, 4, HIDDEN_SIZE, dtype=torch.float64)
    same_mean = history.mean(1, keepdim=True).expand_as(history)
    mask = torch.ones(1, 4, dtype=torch.bool)
    module = encoder(AdditiveAttentionConfig(attention_size=9))
    assert not torch.allclose(module(history, mask), module(same_mean, mask))
