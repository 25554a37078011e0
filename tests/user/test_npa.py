"""NPA's personalised attention against a transcription of its equations."""

from __future__ import annotations

import numpy as np

from legos.user.npa import NPAConfig
from tests.bricks import user_input
from tests.item.padded import dense, numbers
from tests.user.built import built


def test_it_equals_the_equations_of_every_reader() -> None:
    module, given = built(NPAConfig(user_size=6, query_size=9)), user_input()
    found = numbers(given(module))
    known = [True, True, True, False, True, False]
    for row, length in enumerate(given.mask.sum(1).tolist()):
        vectors = numbers(module.users.vectors)
        user = vectors[given.users.ids[row]] if known[row] else numbers(module.users.unknown)
        query = np.maximum(dense(module.query, user), 0)
        items = numbers(given.history[row, :length])
        weights = np.exp(items @ np.tanh(dense(module.project, query)))
        expected = weights @ items / weights.sum() if length else np.zeros(16)
        np.testing.assert_allclose(found[row], expected, rtol=0, atol=1e-12)


def test_readers_of_the_same_history_differ() -> None:
    module, given = built(NPAConfig()), user_input((5, 5))
    same = given.reading(given.history[:1].repeat(2, 1, 1), given.mask, given.users.history)
    first, second = same(module)
    assert not (first == second).any()
