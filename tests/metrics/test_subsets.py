"""Groups of cold and warm items and users."""

from __future__ import annotations

import numpy as np
import pytest

from legos.errors import DataError
from legos.metrics.subsets import positive_subsets

LABELS = np.array([1, 0, 1, 1, 1, 0, 0, 1])
OFFSETS = np.array([0, 2, 4, 5, 7, 8, 8])
COLD = np.array([1, 0, 1, 0, 0, 1, 1, 1], dtype=bool)


def test_a_group_is_cold_when_all_its_positives_are() -> None:
    masks = positive_subsets(LABELS, OFFSETS, COLD)
    # cold; mixed; warm although shown no cold item; no positive; cold; empty
    np.testing.assert_array_equal(masks["cold items"], [1, 0, 0, 0, 1, 0])
    np.testing.assert_array_equal(masks["warm items"], [0, 0, 1, 0, 0, 0])
    assert "cold users" not in masks


def test_users_below_the_threshold_are_cold() -> None:
    lengths = np.array([0, 1, 2, 3, 4, 5])
    masks = positive_subsets(LABELS, OFFSETS, COLD, history_lengths=lengths, threshold=3)
    np.testing.assert_array_equal(masks["cold users"], [1, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(masks["warm users"], ~masks["cold users"])


def test_lengths_that_differ_are_errors() -> None:
    with pytest.raises(DataError, match="do not match"):
        positive_subsets(LABELS, OFFSETS, COLD[:-1])
    with pytest.raises(DataError, match="2 history lengths for 6 groups"):
        positive_subsets(LABELS, OFFSETS, COLD, history_lengths=np.zeros(2))
