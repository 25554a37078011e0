"""The tables of the small shop, read by all tests that compare with them."""

from __future__ import annotations

import pytest

from process.columns import ColumnReader
from tests.process.table.own import build, small_shop


@pytest.fixture(scope="session")
def shop_tables(tmp_path_factory: pytest.TempPathFactory) -> ColumnReader:
    """Of its items and events as they are, with all options at their defaults."""
    shop = small_shop()
    return build(shop.items, shop.events, tmp_path_factory.mktemp("shop"))
