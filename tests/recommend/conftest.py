"""One trained run of bricks for all tests of recommendations."""

from __future__ import annotations

from pathlib import Path

import pytest

import legos
from legos.modes.main import run
from legos.recommend.run import TrainedRun
from tests.modes.tiny_config import tiny_config
from tests.tiny import tiny_tables


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished NAML; every user likes one category, see ``tests/tiny.py``."""
    root = tmp_path_factory.mktemp("recommend")
    config = tiny_config(tiny_tables(root / "tables"), root / "runs", train={"epochs": 4})
    results = run(config)
    return root / "runs" / "tiny" / "naml" / str(results["run"])


@pytest.fixture(scope="module")
def opened(trained: Path) -> TrainedRun:
    """That run; nothing is added to it."""
    return legos.open(trained, device="cpu")
