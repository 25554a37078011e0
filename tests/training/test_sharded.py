"""Weights and moments sharded by FSDP are stored whole and come back as shards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import tiny_tables
from tests.training.two_processes import in_two_processes


@pytest.mark.multiprocess
def test_a_sharded_model_is_saved_whole_and_restored_exactly(tmp_path: Path) -> None:
    tables = tiny_tables(tmp_path / "tables")
    outputs = in_two_processes(["-m", "tests.training.sharded", str(tables)])
    assert [output.strip() for output in outputs] == ["ok", "ok"]
