"""bf16 autocast: losses stay near fp32's, tables, moments and scores stay fp32."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import Tensor

from legos.data.tables import Tables
from legos.systems.cllm4rec.recipe import Cllm4RecRecipe
from legos.systems.cllm4rec.system import Cllm4RecSystem
from legos.training.trainer import take_step
from legos.training.weights import seed_everything
from legos.workplace.device import make_accelerator
from legos.workplace.workplace import Workplace
from tests.systems.cllm4rec.world import world_config, world_language_model, world_tables

STEPS = 4  # of every pass


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    world_tables(folder / "tables", reviews=True)
    return folder


@pytest.fixture(autouse=True)
def _precision_of_its_own() -> Iterator[None]:
    """One process has one precision; tests of others run in it, too."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


def training_of(
    root: Path, precision: Any, family: dict[str, Any], trained: str = "frozen"
) -> Cllm4RecRecipe:
    shape = world_language_model(root / "model", attention_dropout=0.0, **family)
    limits = dict.fromkeys(("collaborative_steps", "content_steps", "recommendation_steps"), STEPS)
    stages = {"pretraining_epochs": 1, "finetuning_epochs": 1, **limits}
    train = {"batch_size": 6, "stages": stages}
    model = {"model": shape, "backbone": {"train": trained}, "train": train}
    config = world_config(root, model=model, precision=precision)
    AcceleratorState._reset_state()
    accelerator = make_accelerator(device="cpu", precision=precision, deterministic=False)
    place = Workplace.open(config, accelerator, Tables.load(config.data.folder))
    system = Cllm4RecSystem(place)
    seed_everything(0)
    rows = system.task_rows(lambda text: None)
    return Cllm4RecRecipe(accelerator, system.model, rows, config.exp.train)


def losses(training: Cllm4RecRecipe) -> dict[str, list[float]]:
    """Losses of all steps by stage and task."""
    found: dict[str, list[float]] = {}
    while (segment := training.segment()) is not None and training.stage is not None:
        if segment.steps:
            name = f"{segment.labels['stage']} {segment.labels['task']}"
            training.replicas.module.train(segment.dropout)
            found[name] = [take_step(training)[0]["loss"] for _ in range(segment.steps)]
        training.after(segment, math.nan)
    return found


def optimized(training: Cllm4RecRecipe) -> dict[str, list[Tensor]]:
    return {
        side: [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for side, optimizer in training.replicas.optimizers.items()
    }


FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "gpt2": {"model_type": "gpt2", "embd_pdrop": 0.0, "resid_pdrop": 0.0, "attn_pdrop": 0.0},
}


@pytest.mark.slow
@pytest.mark.parametrize("trained", ["frozen", "lora", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_in_16_bits_follow_those_in_32(root: Path, family: str, trained: str) -> None:
    exact, rounded = (
        training_of(root, precision, FAMILIES[family], trained) for precision in ("fp32", "bf16")
    )
    expected, found = losses(exact), losses(rounded)
    assert list(found) == [
        "warm-up content",
        "pretraining collaborative",
        "pretraining content",
        "finetuning recommendation",
        "finetuning content",
    ]
    assert found != expected  # it does compute in 16 bits
    for name, values in found.items():
        assert len(values) == STEPS
        assert values == pytest.approx(expected[name], rel=0.01), name


@pytest.mark.slow
def test_only_tables_are_optimized_and_they_stay_fp32(root: Path) -> None:
    training = training_of(root, "bf16", {})
    model = training.model
    backbone = {name: p.detach().clone() for name, p in model.backbone.named_parameters()}
    assert model.content is not None
    for _ in range(2):  # the optimizers of pretraining, and the fresh ones of finetuning
        held = optimized(training)
        for side, tables in (("collaborative", model.collaborative), ("content", model.content)):
            assert {id(p) for p in held[side]} == {id(p) for p in tables.parameters()}
            assert len(held[side]) == 2
            assert all(p.dtype == torch.float32 for p in held[side])
        losses(training)
    for optimizer in training.replicas.optimizers.values():
        moments = [value for state in optimizer.state.values() for value in state.values()]
        assert len(moments) == 2 * 3
        assert all(value.dtype == torch.float32 for value in moments)
    for name, parameter in model.backbone.named_parameters():
        assert torch.equal(parameter, backbone[name])
        assert parameter.grad is None
