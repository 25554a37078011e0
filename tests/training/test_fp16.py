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
from tests.training.gradients import recipe_of
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


@pytest.mark.parametrize("system", ["bricks", "cllm4rec", "recsysllm"])
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
