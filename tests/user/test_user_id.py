"""User-ID vectors: known users their own, all others one shared vector, whatever they read."""

from __future__ import annotations

import pytest
import torch

from legos.item.id import IDConfig
from legos.predictor.dot import DotConfig
from legos.user.user_id import UserIDConfig
from tests.bricks import random_batch, random_recommender, random_store, user_input
from tests.user.built import built


def test_known_users_have_their_own_vector_and_all_others_one() -> None:
    module, given = built(UserIDConfig()), user_input()
    found = given(module)
    users = given.users.ids
    assert users.tolist() == [1, 2, 3, 4, 5, 9]  # training saw no 4, and there is no 9
    assert torch.equal(found[[0, 1, 2, 4]], module.vectors[[1, 2, 3, 5]])
    assert torch.equal(found[[3, 5]], module.unknown.expand(2, -1))


def test_id_dropout_shows_users_as_unknown_while_training() -> None:
    module = built(UserIDConfig(id_dropout=0.4)).train()
    torch.manual_seed(0)
    users = torch.full((4000,), 3)
    shown = (module.look_up(users) == module.unknown).all(1)
    assert float(shown.float().mean()) == pytest.approx(0.4, abs=0.03)


def test_with_item_ids_and_dot_it_is_matrix_factorisation() -> None:
    store = random_store()
    model = random_recommender(store, item=IDConfig(), user=UserIDConfig(), predictor=DotConfig())
    batch, items = random_batch(store)
    scores = model.double().eval()(batch, items).scores
    user, item = model.user_encoder, model.item_encoder
    known_user, known_item = batch.users % 4 > 0, batch.items[batch.candidates] % 5 > 0
    users = torch.where(known_user[:, None], user.vectors[batch.users], user.unknown)
    candidates = torch.where(
        known_item[..., None], item.vectors[batch.items[batch.candidates]], item.unknown
    )
    torch.testing.assert_close(scores, (users[:, None] * candidates).sum(-1), rtol=0, atol=1e-12)
