"""Scores averaged over orders of a prompt's items."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from legos.data.tables import Tables
from legos.systems.cllm4rec.evaluate import score_all
from legos.systems.cllm4rec.system import Cllm4RecSystem
from legos.workplace.device import make_accelerator
from legos.workplace.workplace import Workplace
from tests.systems.cllm4rec.world import world_config, world_language_model, world_tables


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    world_tables(folder / "tables", reviews=True)
    world_language_model(folder / "model")
    return folder


def system_of(root: Path, **recommendation: object) -> Cllm4RecSystem:
    shape = world_language_model(root / "model")
    model = {"model": shape, "recommendation": recommendation}
    config = world_config(root, model=model)
    accelerator = make_accelerator(device="cpu", precision="fp32", deterministic=True)
    place = Workplace.open(config, accelerator, Tables.load(config.data.folder))
    return Cllm4RecSystem(place)


def scores_of(system: Cllm4RecSystem, users: Tensor) -> Tensor:
    read = system.items.select(users)
    return score_all(system.workplace, system.model, system.prompts, users, read)


def test_scores_are_the_mean_log_probability_over_the_orders(root: Path) -> None:
    system = system_of(root, test_orders=3)
    users = torch.tensor([0, 2, 5])
    found = scores_of(system, users)
    with torch.no_grad():
        each = [system.model.scores(system.prompts.prompts(users, draw=draw)) for draw in range(3)]
    assert not torch.allclose(each[0], each[1])  # the orders do differ
    expected = torch.stack([scores.log_softmax(1) for scores in each]).mean(0)
    torch.testing.assert_close(found, expected)
    assert torch.equal(found, scores_of(system, users))
    torch.testing.assert_close(found[1:2], scores_of(system, users[1:2]))


def test_one_order_gives_bare_scores(root: Path) -> None:
    system, users = system_of(root), torch.tensor([1, 3])
    with torch.no_grad():
        expected = system.model.scores(system.prompts.prompts(users))
    torch.testing.assert_close(scores_of(system, users), expected)
