"""Small tables with reviews."""

from __future__ import annotations

import pytest

from legos.data.tables import Tables
from tests.systems.recsysllm.reviews import reviewed_tables


@pytest.fixture(scope="session")
def reviewed(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """Tables split leave-last-out."""
    return reviewed_tables(tmp_path_factory.mktemp("reviewed"))
