"""fp16: a step whose gradients overflow is skipped, and leaves no trace but a smaller scale."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor

from legos.training.trainer import take_step
from legos.workplace.device import make_accelerator
from tests.systems.cllm4rec.world import world_tables
from tests.training.gradients import cllm4rec_steps, recipe_of
from tests.training.systems import SYSTEMS

HUGE, USUAL = 2.0**120, 2.0**10
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="fp16 needs a GPU; there is none")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=GPU)])
def accelerator(request: pytest.FixtureRequest) -> Iterator[Accelerator]:
    """Of precision fp16; on a CPU, where worker.py refuses it, with torch's own scaler."""
    AcceleratorState._reset_state()
    device: str = request.param
    precision = "fp32" if device == "cpu" else "fp16"
    found = make_accelerator(device=device, precision=precision, deterministic=False)
    if device == "cpu":
        found.state._mixed_precision, found.native_amp = "fp16", True
    yield found
    AcceleratorState._reset_state()


@pytest.mark.parametrize("system", ["bricks", "cllm4rec", "recsysllm", "tiger"])
def test_a_step_that_overflows_is_skipped(
    system: str, accelerator: Accelerator, tmp_path: Path
) -> None:
    config = SYSTEMS[system](tmp_path)

    def trained(*, skipping: bool) -> dict[str, Tensor]:
        scale = HUGE if skipping else USUAL
        scaler = torch.amp.GradScaler(accelerator.device.type, init_scale=scale)
        accelerator.scaler = scaler
        recipe = recipe_of(config, accelerator)
        recipe.replicas.module.eval()  # without dropout
        weights = dict(recipe.replicas.trained.named_parameters())
        if skipping:
            before = {name: each.detach().clone() for name, each in weights.items()}
            start = deepcopy(recipe.progress)
            log, _ = take_step(recipe)
            assert all(torch.equal(before[name], each) for name, each in weights.items())
            assert scaler.get_scale() == HUGE / 2
            assert "gradient_norm" not in log
            assert recipe.progress.step == 1
            recipe.progress = start
            scaler.update(USUAL)
        take_step(recipe)
        assert scaler.get_scale() == USUAL
        return {name: each.detach().clone() for name, each in weights.items()}

    expected, found = trained(skipping=False), trained(skipping=True)
    assert all(torch.equal(found[name], each) for name, each in expected.items())


@pytest.mark.slow
def test_adapters_that_two_optimizers_share_are_clipped_by_their_own_norm(
    accelerator: Accelerator, tmp_path: Path
) -> None:
    world_tables(tmp_path / "tables", reviews=True)
    train = {"clip": 1e-3}
    config = cllm4rec_steps(tmp_path, {"backbone": {"train": "lora"}})
    exp = config.exp.model_copy(update={"train": config.exp.train.model_copy(update=train)})
    config = config.model_copy(update={"exp": exp})

    def stepped(scale: float) -> tuple[float, dict[str, Tensor]]:
        accelerator.scaler = torch.amp.GradScaler(accelerator.device.type, init_scale=scale)
        recipe = recipe_of(config, accelerator)
        recipe.replicas.module.eval()  # without dropout
        assert len(recipe.replicas.optimizers) == 2
        taken: dict[str, Tensor] = {}

        def keep(name: str) -> None:
            for key, parameter in recipe.replicas.trained.named_parameters():
                if parameter.grad is not None:
                    taken[key] = parameter.grad.clone()

        recipe.replicas.step = keep  # type: ignore[method-assign]
        return take_step(recipe)[0]["gradient_norm"], taken

    plain_norm, plain = stepped(1.0)
    norm, found = stepped(USUAL)
    assert any("lora_" in name for name in found)
    assert norm == pytest.approx(plain_norm, rel=1e-3)
    total = torch.stack([each.norm() for each in found.values()]).norm()
    assert float(total) == pytest.approx(1e-3, rel=1e-3)
    for name, gradient in plain.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-7)
