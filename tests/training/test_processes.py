"""Any number of processes: the gradients, metrics and files of one; kill and resume."""

from __future__ import annotations

import json
import random
import shutil
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from legos.config.schema import RunConfig
from legos.modes.main import run
from legos.training.recipe import Step
from legos.training.trainer import each_tensor, prepared
from legos.workplace.device import make_accelerator
from tests.systems.cllm4rec.world import world_config, world_language_model, world_tables
from tests.systems.recsysllm.reviews import reviewed_tables
from tests.systems.recsysllm.system import system_config
from tests.tiny import tiny_tables
from tests.training.finished import assert_same, finished
from tests.training.gradients import (
    CLLM4REC,
    RECSYSLLM,
    cllm4rec_steps,
    configs,
    gradients,
    recipe_of,
    recsysllm_steps,
)
from tests.training.two_processes import end_of_one, ends_of_two, in_two_processes

pytestmark = pytest.mark.multiprocess


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    world_tables(folder / "tables", reviews=True)
    reviewed_tables(folder / "reviews").folder.rename(folder / "reviewed")
    tiny_tables(folder / "clicked", num_items=24, num_users=12, num_impressions=10)
    return folder


def test_gradients_of_two_processes_are_those_of_one(root: Path) -> None:
    in_two_processes(["-m", "tests.training.gradients", str(root)])
    accelerator = make_accelerator(device="cpu", precision="fp32", deterministic=True)
    for name, config in configs(root).items():
        expected = gradients(recipe_of(config, accelerator))
        for rank in range(2):
            assert_close(load_file(root / f"{name}-{rank}.safetensors"), expected, name)


@pytest.mark.parametrize(
    "name", ["fsdp bricks", "sequences", "sampled", "cloze", "paper", "tokens"]
)
def test_a_step_follows_from_its_number_alone(root: Path, name: str) -> None:
    """Made ahead in a thread or made again, it has the same bits; no random state is touched."""
    accelerator = make_accelerator(device="cpu", precision="fp32", deterministic=True)
    recipe = recipe_of(configs(root)[name], accelerator)
    segment = recipe.segment()
    assert segment is not None
    before = (torch.get_rng_state(), np.random.get_state(), random.getstate())
    with closing(prepared(recipe, segment)) as steps:
        found = list(steps)
    again = [recipe.step(segment.first + number) for number in reversed(range(segment.steps))]
    assert len(found) == segment.steps > 1
    for one, other in zip(found, reversed(again), strict=True):
        pairs = list(zip(tensors(one), tensors(other), strict=True))
        assert pairs
        assert all(torch.equal(*pair) for pair in pairs)
    assert torch.equal(before[0], torch.get_rng_state())
    assert all(np.array_equal(a, b) for a, b in zip(before[1], np.random.get_state(), strict=True))
    assert before[2] == random.getstate()


def tensors(step: Step) -> list[Tensor]:
    """All that a step reads."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    each_tensor(step, keep)
    return found


@pytest.mark.parametrize("name", ["paper", "public_code", "tokens", "examples"])
def test_accumulated_micro_batches_are_one_batch(root: Path, name: str) -> None:
    """Sums and means alike; a step of RecSysLLM is read in groups of so many tokens."""
    accelerator = make_accelerator(device="cpu", precision="fp32", deterministic=True)
    small = configs(root)[name]
    if name in CLLM4REC:
        whole = cllm4rec_steps(root, CLLM4REC[name], batch_size=9, acc_batch=1)
    else:
        own = {"train": {**RECSYSLLM[name], "batch_size": 12, "batch_tokens": 10**6}}
        whole, accumulated = recsysllm_steps(root, own), {"batch_size": 6, "batch_tokens": 150}
        small = recsysllm_steps(root, {"train": {**RECSYSLLM[name], **accumulated}}, acc_batch=2)
    expected, found = (gradients(recipe_of(config, accelerator)) for config in (whole, small))
    assert_close(found, expected, name)


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], name: str) -> None:
    """Up to rounding in fp32."""
    assert found.keys() == expected.keys(), name
    assert len(expected) > 4
    for key, value in expected.items():
        scale = max(1.0, float(value.abs().max()))
        difference = float((found[key] - value).abs().max()) / scale
        assert difference < 1e-6, (name, key, difference)


def cllm4rec(root: Path, **exp: Any) -> RunConfig:
    shape = world_language_model(root / "llama", attention_dropout=0.0)
    stages = {"pretraining_epochs": 1, "finetuning_epochs": 2, "content_steps": 3}
    return world_config(root, model={"model": shape, "train": {"stages": stages}}, **exp)


def recsysllm(root: Path, **exp: Any) -> RunConfig:
    model: dict[str, Any] = {
        "backbone": {"lora_dropout": 0.0},
        "train": {"epoch_steps": 3},
        "measure": {
            "prompts": ["sequential-6", "direct-8", "rating-1"], "beams": 10, "users": 3,
            "valid_users": 3,
        },
    }  # fmt: skip
    return system_config(root / "reviewed", root / "recsysllm", model=model, **exp)


@pytest.mark.parametrize(
    ("system", "way"),
    [
        (cllm4rec, "ddp"),
        (recsysllm, "fsdp"),
        pytest.param(cllm4rec, "fsdp", marks=pytest.mark.nightly),
        pytest.param(recsysllm, "ddp", marks=pytest.mark.nightly),
    ],
)
def test_a_run_of_two_processes_ends_as_one_of_one(
    root: Path, tmp_path: Path, system: Callable[..., RunConfig], way: str
) -> None:
    """One rank writes; a run that one process had begun goes on with two, and the reverse.

    The kill of one of two processes ends the other; two go on to the bits of an undisturbed run.
    """

    def configured(name: str) -> RunConfig:
        return system(
            root, runs_folder=str(tmp_path / name), distributed=way, train={"checkpoint_steps": 2}
        )

    expected = run(configured("one"))
    in_two_processes(command(configured("two"), tmp_path))
    found = results(tmp_path / "two")
    assert found["processes"] == 2
    assert_alike(found, expected)
    for begun in (1, 2):
        resumed = configured(f"begun{begun}")
        words = command(resumed, tmp_path, kill_at=4)
        if begun == 1:
            assert end_of_one(words) == -signal.SIGKILL
            in_two_processes(command(resumed, tmp_path))
        else:
            (code, errors), killed = ends_of_two(words)
            assert killed[0] == -signal.SIGKILL
            assert "another process" in errors
            assert code == 1
            shutil.copytree(tmp_path / "begun2", tmp_path / "again")
            run(resumed)
        (log,) = (tmp_path / f"begun{begun}").glob("*/*/*/log.txt")
        assert f"saved by {begun} processes, resumed with {3 - begun}" in log.read_text()
        assert_alike(results(tmp_path / f"begun{begun}"), expected)
    in_two_processes(command(configured("again"), tmp_path))
    assert_same(finished(tmp_path / "again"), finished(tmp_path / "two"))


def command(config: RunConfig, folder: Path, *, kill_at: int = -1) -> list[str]:
    """Words of a run in a process of its own, whose last process is killed after so many steps."""
    path = folder / "config.json"
    path.write_text(config.model_dump_json())
    return ["-m", "tests.training.killed", str(path), str(kill_at)]


def results(runs: Path) -> dict[str, Any]:
    (path,) = runs.glob("*/*/*/results.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def assert_alike(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same steps and metrics; sums of two processes round otherwise."""
    for key in ("rows", "steps", "epochs", "best_epoch"):
        assert found["training"][key] == expected["training"][key], key
    assert found["training"]["best"] == pytest.approx(expected["training"]["best"], abs=1e-6)
    rows, wanted = (each["splits"]["test"]["rows"] for each in (found, expected))
    assert rows.keys() == wanted.keys()
    for name, row in wanted.items():
        assert rows[name] == pytest.approx(row, abs=1e-6), name
