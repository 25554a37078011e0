"""Groups of cold and warm items, cold and active users, unseen and seen users."""

from __future__ import annotations

import numpy as np
import pytest

from legos.errors import DataError
from legos.metrics.beyond import item_subsets, user_subsets

LABELS = np.array([1, 0, 1, 1, 1, 0, 0, 1])
OFFSETS = np.array([0, 2, 4, 5, 7, 8, 8])
COLD = np.array([1, 0, 1, 0, 0, 1, 1, 1], dtype=bool)


def test_a_group_is_cold_when_all_its_positives_are() -> None:
    masks = item_subsets(LABELS, OFFSETS, COLD)
    # cold; mixed; warm although shown no cold item; no positive; cold; empty
    np.testing.assert_array_equal(masks["cold items"], [1, 0, 0, 0, 1, 0])
    np.testing.assert_array_equal(masks["warm items"], [0, 0, 1, 0, 0, 0])


def test_users_are_told_by_their_clicks_and_by_what_training_saw() -> None:
    clicks = np.array([0, 3, 4, 9])
    seen = np.array([False, True, False, True])
    masks = user_subsets(clicks, seen, cold_user_clicks=3)
    np.testing.assert_array_equal(masks["cold users"], [1, 1, 0, 0])
    np.testing.assert_array_equal(masks["active users"], [0, 0, 1, 1])
    np.testing.assert_array_equal(masks["unseen users"], [1, 0, 1, 0])
    np.testing.assert_array_equal(masks["seen users"], [0, 1, 0, 1])


def test_lengths_that_differ_are_errors() -> None:
    with pytest.raises(DataError, match="do not match"):
        item_subsets(LABELS, OFFSETS, COLD[:-1])
    with pytest.raises(DataError, match=r"clicks \(2,\) and seen \(3,\) do not match"):
        user_subsets(np.zeros(2), np.zeros(3, dtype=bool), cold_user_clicks=5)
