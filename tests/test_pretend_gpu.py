"""Trainings and generation on a GPU that is none: no operation has operands on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState

from benchmarks.gpu.equality import apart, cases, steps_of
from benchmarks.gpu.generation import open_world, ranked
from benchmarks.gpu.setting import TINY, Setting
from tests.as_on_cuda import CASES
from tests.pretend_gpu import CUDA, pretend_gpu


@pytest.fixture(autouse=True)
def _device_of_its_own() -> Iterator[None]:
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def pretended(setting: Setting) -> Accelerator:
    """Of the GPU that is none."""
    found = setting.accelerator("fp32", "cpu")
    PartialState._shared_state["device"] = found.state.__dict__["device"] = CUDA
    return found


def test_tensors_remember_where_they_belong() -> None:
    with pretend_gpu():
        here = torch.arange(3)
        there = here.to(CUDA)
        layer = torch.nn.Linear(3, 2).to("cuda")
        made = [
            there, there[:2], there + 1, there * torch.tensor(2), torch.zeros(2, device="cuda"),
            there.new_zeros(2), there.new_tensor([1]), torch.zeros_like(there), layer.weight,
            layer(there.float()),
        ]  # fmt: skip
        assert [each.device.type for each in made] == ["cuda"] * 10
        layer(there.float()).sum().backward()
        assert layer.weight.grad is not None
        assert layer.weight.grad.is_cuda
        assert here.device.type == there.cpu().device.type == "cpu"
        assert there.cpu().numpy().tolist() == there.tolist() == [0, 1, 2]
    assert there.device.type == "cpu"


def test_both_sides_in_one_operation_raise() -> None:
    with pretend_gpu():
        here, there = torch.arange(3), torch.arange(3).to("cuda")
        for call in (
            lambda: here + there,
            lambda: torch.cat([here, there]),
            lambda: here[there],
            lambda: here.index_select(0, there),
        ):
            with pytest.raises(RuntimeError, match="expected all tensors on one device"):
                call()
        with pytest.raises(TypeError, match="can't convert cuda tensor to numpy"):
            there.numpy()
        assert there[here].is_cuda  # as on a GPU: indices may be on the CPU
        there.copy_(here)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_trainings_keep_to_their_device(name: str, tmp_path: Path) -> None:
    setting = Setting("cpu", TINY, tmp_path)
    make = dict(cases(setting))[name]
    expected = steps_of(make(setting.accelerator("fp32")), 1)
    with pretend_gpu():
        recipe = make(pretended(setting))
        found = steps_of(recipe, 1)
        weights = list(recipe.replicas.trained.parameters())
        assert {weight.device.type for weight in weights} == {"cuda"}
    assert max(apart(found, expected)) < 1e-5


@pytest.mark.nightly
def test_beams_keep_to_their_device(tmp_path: Path) -> None:
    setting = Setting("cpu", TINY, tmp_path)
    _, world = open_world(setting)
    expected = ranked(world, setting.accelerator("fp32"))
    with pretend_gpu():
        found = ranked(world.to(CUDA), pretended(setting))
        assert found.scores.is_cuda
        assert torch.equal(found.nodes.cpu(), expected.nodes)
