"""Small tables with reviews, made by the real command's code."""

from __future__ import annotations

import pytest

from legos.data.tables import Tables
from process.amazon.assemble import Options, read_prepared
from process.amazon.filters import Filters
from process.amazon.impressions import Negatives
from process.raw import TokenizerSpec
from process.tables import write_tables
from tests.recsysllm.reviews import write_raw


@pytest.fixture(scope="session")
def reviewed(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """Tables split leave-last-out."""
    folder = tmp_path_factory.mktemp("reviewed")
    options = Options(filters=Filters(), negatives=Negatives(4, (5, 9), 0))
    raw = read_prepared(write_raw(folder / "raw"), name="reviewed", options=options)
    write_tables(raw, folder / "tables", [TokenizerSpec("words", "words")], unitok=False)
    return Tables.load(folder / "tables")
