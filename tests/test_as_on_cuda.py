"""The mode in which autocast on a CPU does what it does on CUDA, and the trainings in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor
from torch.nn import functional

from benchmarks.gpu.equality import GRADIENT, LOSS, apart, cases, steps_of
from benchmarks.gpu.generation import NEW, open_world, ranked, titles_of
from benchmarks.gpu.setting import TINY, Setting
from benchmarks.gpu.shipped import shipped_recipe
from benchmarks.models import Shipped
from benchmarks.recsysllm import compare, lists
from benchmarks.shapes import Shape
from legos.config.models import names_of
from legos.errors import ConfigError
from legos.systems.recsysllm.decoding import fill_blanks, read_prompts
from legos.workplace.device import make_accelerator
from tests.as_on_cuda import CASES, AsOnCuda

HALF = torch.ones(2, dtype=torch.bfloat16)


@pytest.fixture(autouse=True)
def _precision_of_its_own() -> Iterator[None]:
    """One process has one precision."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


def autocast() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16)


def of_fp16() -> Accelerator:
    """On a CPU, where worker.py refuses it, with torch's own scaler."""
    AcceleratorState._reset_state()
    found = make_accelerator(device="cpu", precision="fp32", deterministic=False)
    found.state._mixed_precision, found.native_amp = "fp16", True
    found.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    return found


def test_what_cuda_computes_in_float32_is_float32() -> None:
    with AsOnCuda(), autocast():
        found = [
            HALF.exp(), torch.softmax(HALF, 0), HALF.sum(), HALF**2,
            functional.normalize(HALF, dim=0), functional.layer_norm(HALF, (2,)),
        ]  # fmt: skip
        assert [each.dtype for each in found] == [torch.float32] * 6
        assert (HALF * 2).dtype == torch.bfloat16
        assert (HALF[None] @ HALF[:, None].float()).dtype == torch.bfloat16
    with AsOnCuda():
        assert HALF.exp().dtype == torch.bfloat16


def test_operands_of_two_dtypes_raise_as_on_cuda() -> None:
    rows, values = torch.tensor([0]), torch.ones(1)

    def assign(target: Tensor) -> None:
        target[rows] = values

    with AsOnCuda(), autocast():
        for call in (
            lambda: HALF.index_copy(0, rows, values),
            lambda: HALF.index_add(0, rows, values),
            lambda: assign(HALF.clone()),
        ):
            with pytest.raises(RuntimeError, match=r"torch.bfloat16.*torch.float32"):
                call()
        assert HALF.index_copy(0, rows, values.bfloat16()).dtype == torch.bfloat16
        assign(torch.zeros(2))
        with pytest.raises(RuntimeError, match="unsafe to autocast"):
            functional.binary_cross_entropy(torch.ones(1), torch.ones(1))
    assert torch.equal(HALF, torch.ones(2, dtype=torch.bfloat16))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", CASES)
def test_trainings_of_all_systems_are_those_in_fp32(
    name: str, precision: str, tmp_path: Path
) -> None:
    setting = Setting("cpu", TINY, tmp_path)
    make = dict(cases(setting))[name]
    expected = steps_of(make(setting.accelerator("fp32")))
    recipe = make(of_fp16() if precision == "fp16" else setting.accelerator("bf16"))
    with AsOnCuda():
        found = steps_of(recipe)
    assert not found.skipped
    loss, gradient = apart(found, expected)
    assert 0 < loss <= LOSS[precision]
    assert 0 < gradient <= GRADIENT[precision]


@pytest.mark.nightly
@pytest.mark.parametrize("name", names_of("model"))
def test_shipped_models_learn_in_fp16_as_on_cuda(name: str) -> None:
    try:
        shipped = Shipped.of(name, Shape(60, 4, 8))
    except ConfigError:
        pytest.skip("it needs a language model or given user vectors, or is a system of its own")
    AcceleratorState._reset_state()
    exact = make_accelerator(device="cpu", precision="fp32", deterministic=False)
    expected = steps_of(shipped_recipe(exact, shipped))
    recipe = shipped_recipe(of_fp16(), shipped)
    with AsOnCuda():
        found = steps_of(recipe)
    assert not found.skipped
    assert apart(found, expected)[0] <= 0.05  # of a model whose scores are large, FastFormer's


@pytest.mark.slow
def test_what_recsysllm_writes_in_16_bits_is_near_fp32(tmp_path: Path) -> None:
    setting = Setting("cpu", TINY, tmp_path)
    prompts, world = open_world(setting)
    surfaces = lists(prompts.world.pool.surfaces("item", world.slot.keys, space=True))
    expected = titles_of(ranked(world, setting.accelerator("fp32")), world.slot, surfaces)
    with AsOnCuda():
        accelerator = of_fp16()
        found = titles_of(ranked(world, accelerator), world.slot, surfaces)
        with accelerator.autocast():
            read = read_prompts(world.backbone, world.prompts)
            filled = fill_blanks(world.backbone, read, world.automaton, max_new=NEW)
    assert compare(found, expected)["difference"] < 0.1
    assert len(filled.tokens) == len(world.prompts)
