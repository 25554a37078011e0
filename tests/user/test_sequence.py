"""The sequence user encoder hands the history on, without what stands under the mask."""

from __future__ import annotations

import torch

from legos.user.sequence import SequenceConfig
from tests.bricks import user_input
from tests.user.built import built


def test_it_is_the_history_with_zeros_under_the_mask() -> None:
    module, given = built(SequenceConfig()), user_input()
    given.history[~given.mask] = torch.nan
    found = given(module)
    assert torch.equal(found[given.mask], given.history[given.mask])
    assert not found[~given.mask].any()
    assert list(module.parameters()) == []
