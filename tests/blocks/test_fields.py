"""Products between any number of fields against loops over pairs."""

from __future__ import annotations

import itertools

import pytest
import torch

from legos.blocks.embedding import pairwise_products


@pytest.mark.parametrize("num_fields", [1, 2, 5])
def test_pairwise_products_are_those_of_all_pairs(num_fields: int) -> None:
    fields = torch.randn(3, 4, num_fields, 6, dtype=torch.float64)
    found = pairwise_products(fields)
    assert found.shape == (3, 4)
    for row, column in itertools.product(range(3), range(4)):
        pairs = itertools.combinations(fields[row, column], 2)
        expected = sum((left @ right for left, right in pairs), torch.tensor(0.0).double())
        torch.testing.assert_close(found[row, column], expected, rtol=0, atol=1e-12)
