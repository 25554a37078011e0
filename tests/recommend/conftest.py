"""One trained run of each system for all tests of recommendations."""

from __future__ import annotations

from pathlib import Path

import pytest

import legos
from legos.modes.main import run
from legos.recommend.run import TrainedRun
from tests.modes.tiny_config import tiny_config
from tests.systems.cllm4rec.world import world_config, world_tables
from tests.systems.recsysllm.reviews import reviewed_tables
from tests.systems.recsysllm.system import system_config
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


@pytest.fixture(scope="session")
def cllm4rec(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A CLLM4Rec over clusters of users, see ``tests/systems/cllm4rec/world.py``."""
    root = tmp_path_factory.mktemp("cllm4rec")
    world_tables(root / "tables", reviews=True)
    stages = {"pretraining_epochs": 1, "finetuning_epochs": 2}
    run(world_config(root, model={"train": {"stages": stages}}))
    return legos.open(root / "runs", device="cpu")


@pytest.fixture(scope="session")
def recsysllm(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A RecSysLLM over reviews, hardly trained; its lists are those of one prompt."""
    root = tmp_path_factory.mktemp("recsysllm")
    tables = reviewed_tables(root)
    measure = {"beams": 10, "most_read": None, "prompts": ["sequential-6"]}
    model = {"measure": measure, "train": {"epochs": 1}}
    run(system_config(tables.folder, root, model=model))
    return legos.open(root / "runs", device="cpu")
