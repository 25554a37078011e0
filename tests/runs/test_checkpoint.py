"""Checkpoints: whole or not at all, verified when read, only of the model they were made from."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import legos.files
from legos.errors import CheckpointError
from legos.runs.checkpoint import Checkpoint, has_checkpoint, read_checkpoint, write_checkpoint
from legos.training.weights import (
    check_frozen,
    frozen_hashes,
    load_model_tensors,
    load_optimizer_tensors,
    model_tensors,
    optimizer_tensors,
)


def example(value: float = 1.0) -> Checkpoint:
    return Checkpoint(
        model={"weight": torch.full((3, 2), value)},
        state={"step": int(value)},
        optimizer={"weight/exp_avg": torch.ones(3, 2)},
    )


class Small(nn.Module):
    def __init__(self, width: int = 2, *, frozen: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(3, width)
        self.table = nn.Parameter(torch.full((4, 3), frozen), requires_grad=False)
        self.register_buffer("seen", torch.zeros(2))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "last", example())
    found = read_checkpoint(tmp_path / "last")
    assert torch.equal(found.model["weight"], torch.ones(3, 2))
    assert torch.equal(found.optimizer["weight/exp_avg"], torch.ones(3, 2))
    assert found.state["step"] == 1


def test_a_new_checkpoint_leaves_nothing_of_the_old_one(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "last", example(1))
    write_checkpoint(tmp_path / "last", example(2))
    assert read_checkpoint(tmp_path / "last").state["step"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


@pytest.mark.parametrize("call", range(40))
def test_a_crash_at_any_call_leaves_the_old_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """The process "dies" at the n-th rename, flush or removal: nothing after it happens."""
    folder = tmp_path / "last"
    write_checkpoint(folder, example(1))
    calls = 0

    def dying(real: Any) -> Any:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > call:
                raise SystemExit("killed")
            return real(*args, **kwargs)

        return wrapper

    for owner, name in (
        (os, "replace"), (os, "rename"), (os, "fsync"), (shutil, "rmtree"), (os, "unlink"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, dying(getattr(owner, name)))
    died = False
    try:
        write_checkpoint(folder, example(2))
    except SystemExit:
        died = True
    monkeypatch.undo()
    assert died == (calls > call)
    assert has_checkpoint(folder)
    assert read_checkpoint(folder).state["step"] in ((1, 2) if died else (2,))
    write_checkpoint(folder, example(3))
    assert read_checkpoint(folder).state["step"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_a_full_disk_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path / "last", example(1))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(legos.files, "_sync", full)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(tmp_path / "last", example(2))
    monkeypatch.undo()
    assert read_checkpoint(tmp_path / "last").state["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_a_missing_checkpoint_says_what_to_give(tmp_path: Path) -> None:
    assert not has_checkpoint(tmp_path / "last")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        read_checkpoint(tmp_path / "last")


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("kept", [0, 4, 60])
def test_a_file_cut_short_is_named(tmp_path: Path, name: str, kept: int) -> None:
    write_checkpoint(tmp_path / "last", example())
    path = tmp_path / "last" / name
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=name):
        read_checkpoint(tmp_path / "last")


def test_a_changed_byte_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "last", example())
    path = tmp_path / "last" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged"):
        read_checkpoint(tmp_path / "last")


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "last", example())
    (tmp_path / "last" / "optimizer.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"optimizer\.safetensors: missing"):
        read_checkpoint(tmp_path / "last")


def test_another_format_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "last", example())
    path = tmp_path / "last" / "state.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(CheckpointError, match="checkpoint format 9, this version reads 1"):
        read_checkpoint(tmp_path / "last")


def test_only_what_training_changes_is_stored() -> None:
    assert set(model_tensors(Small())) == {"linear.weight", "linear.bias", "seen"}


def test_weights_return_bit_by_bit() -> None:
    source, target = Small(), Small()
    load_model_tensors(target, model_tensors(source), origin="here")
    assert torch.equal(source.linear.weight, target.linear.weight)


def test_a_checkpoint_of_another_model_lists_the_first_differences() -> None:
    with pytest.raises(CheckpointError) as caught:
        load_model_tensors(Small(5), {**model_tensors(Small(2)), "odd": torch.ones(1)}, origin="F")
    message = str(caught.value)
    assert message.startswith("F: checkpoint of another model")
    assert "odd is not in the model" in message
    assert "linear.weight is (2, 3) in the checkpoint, (5, 3) in the model" in message


def test_a_refused_checkpoint_changes_nothing() -> None:
    model = Small(2)
    before = model.linear.weight.clone()
    with pytest.raises(CheckpointError):
        load_model_tensors(model, {"linear.weight": torch.ones(2, 3)}, origin="F")
    assert torch.equal(model.linear.weight, before)


def test_another_frozen_table_is_refused_by_name() -> None:
    hashes = frozen_hashes(Small())
    check_frozen(frozen_hashes(Small()), hashes, origin="F")
    with pytest.raises(CheckpointError, match=r"frozen weights differ .* table"):
        check_frozen(frozen_hashes(Small(frozen=1.0)), hashes, origin="F")


def test_an_optimizer_goes_on_exactly() -> None:
    def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
        for number in range(count):
            model(torch.full((2, 3), float(number + 1))).pow(2).sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    torch.manual_seed(0)
    first = Small()
    optimizer = torch.optim.Adam(first.parameters(), fused=True)
    steps(first, optimizer, 3)
    second = Small()
    load_model_tensors(second, model_tensors(first), origin="F")
    resumed = torch.optim.Adam(second.parameters(), fused=True)
    load_optimizer_tensors(second, resumed, optimizer_tensors(first, optimizer), origin="F")
    steps(first, optimizer, 3)
    steps(second, resumed, 3)
    assert torch.equal(first.linear.weight, second.linear.weight)
