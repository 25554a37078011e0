"""DIN's attention as a user encoder: the block over the users' candidates."""

from __future__ import annotations

import torch

from legos.user.target_attention import TargetAttentionConfig
from tests.bricks import user_input
from tests.user.built import built


def test_it_attends_to_the_history_with_the_readers_candidates() -> None:
    module, given = built(TargetAttentionConfig(attention_sizes=(8, 4))), user_input()
    found = given(module)
    assert found.shape == (6, 5, 16)
    assert not found[0].any()  # has read nothing
    expected = module.attention(given.history, given.users.candidates, given.mask)
    assert torch.equal(found, expected)
    assert not torch.isclose(found[1:, 0], found[1:, 1]).all(1).any()
