"""A step that is read in parts is the same step: chunks of logits, groups of like lengths."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from legos.systems.recsysllm.decoding import token_losses
from legos.systems.recsysllm.recipe import length_batches
from tests.systems.recsysllm.small import small_backbone


@pytest.mark.parametrize("family", ["llama", "glm"])
def test_chunks_of_logits_change_neither_losses_nor_gradients(family: str) -> None:
    backbone = small_backbone(family)
    states = torch.randn(11, backbone.width, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(11)
    weights = torch.arange(11.0)
    logits = backbone.logits(states)
    assert backbone.num_tokens == logits.shape[1]
    found = []
    for states_at_once in (1, 4, 11, 50):  # 4: three chunks, of which the last is not full
        own = states.clone().requires_grad_(True)
        losses = token_losses(
            backbone, own, targets, max_logits=states_at_once * backbone.num_tokens
        )
        (gradient,) = torch.autograd.grad((losses * weights).sum(), own)
        found.append(torch.cat([losses[:, None].detach(), gradient], 1))
    expected = -logits.log_softmax(-1).gather(1, targets[:, None])[:, 0].detach()
    for one in found:
        assert torch.allclose(one[:, 0], expected, atol=1e-5)
        assert torch.allclose(one, found[0], atol=1e-5)


@given(
    lengths=st.lists(st.integers(1, 900), min_size=1, max_size=60),
    budget=st.integers(900, 5000),
)
def test_groups_of_like_lengths_hold_every_example_once(lengths: list[int], budget: int) -> None:
    counts = torch.tensor(lengths)
    groups = length_batches(counts, budget)
    assert sorted(torch.cat(groups).tolist()) == list(range(len(lengths)))
    for group in groups:
        own = counts[group]
        assert int(own.sum()) <= budget
        ahead = own.cumsum(0) - own  # tokens before each example
        assert not bool(((ahead >= 1024) & (2 * own <= own[0])).any())


def test_short_examples_do_not_stand_in_rows_of_long_ones() -> None:
    lengths = torch.tensor([40, 600, 30, 700, 50])
    assert [group.tolist() for group in length_batches(lengths, 8192)] == [[3, 1], [4, 0, 2]]
    assert [group.tolist() for group in length_batches(lengths[:3], 8192)] == [[1, 0, 2]]
