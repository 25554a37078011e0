"""Given user vectors: projected as those of items are, one learned vector where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from legos.errors import ConfigError
from legos.item.fixed_vectors import FixedVectorsConfig
from legos.predictor.dot import DotConfig
from legos.recommender import build_brick
from legos.registry import user_encoders
from legos.user.user_vectors import UserVectorsConfig
from tests.bricks import (
    NUM_USERS,
    random_batch,
    random_recommender,
    random_store,
    random_vectors,
    user_input,
)
from tests.item.padded import dense, numbers
from tests.user.built import built


def test_a_given_vector_goes_through_the_tower_and_others_share_one() -> None:
    module, given = built(UserVectorsConfig(hidden_sizes=(5,))), user_input()
    found = given(module)
    assert given.users.ids.tolist() == [1, 2, 3, 4, 5, 9]  # there is no 9
    first, _, _, last = module.project
    rows = random_vectors(NUM_USERS)[1:6].double().numpy()
    expected = dense(last, np.maximum(dense(first, rows), 0))
    np.testing.assert_allclose(numbers(found[:5]), expected, rtol=0, atol=1e-6)
    assert torch.equal(found[5], module.missing)
    assert torch.equal(module.look_up(torch.tensor([0, 7])), module.missing.expand(2, -1))


def test_with_item_vectors_and_dot_it_is_two_towers() -> None:
    store = random_store()
    model = random_recommender(
        store, item=FixedVectorsConfig(), user=UserVectorsConfig(), predictor=DotConfig()
    )
    batch, items = random_batch(store)
    scores = model.double().eval()(batch, items).scores
    users = model.user_encoder.look_up(batch.users)
    candidates = model.item_encoder.look_up(batch.items[batch.candidates].flatten())
    candidates = candidates.view(*batch.candidates.shape, -1)
    torch.testing.assert_close(scores, (users[:, None] * candidates).sum(-1), rtol=0, atol=1e-12)


def test_without_a_file_the_error_says_what_is_missing() -> None:
    context = {"user_vectors": None, "hidden_size": 3}
    with pytest.raises(ConfigError, match=r"name their file in embed\.user_vectors"):
        build_brick(user_encoders, UserVectorsConfig(), context)
