"""LSTUR's two fusions against torch's GRU over each history by itself."""

from __future__ import annotations

import pytest
import torch

from legos.errors import ConfigError
from legos.user.lstur import LSTURConfig
from tests.bricks import random_recommender, random_store, user_input
from tests.user.built import built

KNOWN = [True, True, True, False, True, False]  # of users 1, 2, 3, 4, 5 and 9


def test_ini_starts_the_gru_from_the_long_term_vector() -> None:
    module, given = built(LSTURConfig(fusion="ini")), user_input()
    found = given(module)
    for row, length in enumerate(given.mask.sum(1).tolist()):
        user = int(given.users.ids[row])
        long_term = module.long_term.vectors[user] if KNOWN[row] else torch.zeros(16).double()
        expected = long_term
        if length:
            _, last = module.gru(given.history[row : row + 1, :length], long_term[None, None])
            expected = last[0, 0]
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-12)


def test_con_puts_the_long_term_vector_beside_the_last_state() -> None:
    module, given = built(LSTURConfig(fusion="con")), user_input()
    found = given(module)
    assert found.shape == (6, 16)
    for row, length in enumerate(given.mask.sum(1).tolist()):
        user = int(given.users.ids[row])
        long_term = module.long_term.vectors[user] if KNOWN[row] else torch.zeros(8).double()
        short_term = torch.zeros(8, dtype=torch.float64)
        if length:
            _, last = module.gru(given.history[row : row + 1, :length])
            short_term = last[0, 0]
        expected = torch.cat([short_term, long_term])
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-12)


def test_long_term_vectors_are_masked_whole_at_their_rate_and_never_scaled() -> None:
    module = built(LSTURConfig(mask_probability=0.3)).train()
    torch.manual_seed(0)
    vectors = module.long_term.look_up(torch.full((4000,), 3))
    masked = (vectors == 0).all(1)
    assert float(masked.float().mean()) == pytest.approx(0.3, abs=0.03)
    kept = vectors[~masked]
    assert torch.equal(kept, module.long_term.vectors[3].expand_as(kept))
    assert not (module.eval().long_term.look_up(torch.full((100,), 3)) == 0).any()


def test_con_refuses_an_odd_width() -> None:
    with pytest.raises(
        ConfigError, match=r"model.user \(lstur\): hidden_size 15 is odd.* 14 or 16"
    ):
        random_recommender(random_store(), user=LSTURConfig(fusion="con"), hidden_size=15)
    random_recommender(random_store(), user=LSTURConfig(fusion="ini"), hidden_size=15)
