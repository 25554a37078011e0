"""Checkpoints that were written before all systems had one trainer still open and resume.

They named no system but RecSysLLM's; CLLM4Rec and RecSysLLM, which had one process alone, kept its
random numbers without a rank, and no scaler; RecSysLLM kept no number of rows a step.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from legos.modes.main import run
from legos.runs.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from legos.training import trainer
from legos.training.recipe import Recipe
from tests.training.systems import SYSTEMS, into


def former(checkpoint: Checkpoint, system: str) -> Checkpoint:
    """The same checkpoint as it used to be laid out."""
    state = {key: value for key, value in checkpoint.state.items() if key != "files"}
    optimizer = dict(checkpoint.optimizer)
    if system != "recsysllm":
        del state["system"]
    if system == "bricks":
        return Checkpoint(checkpoint.model, state, optimizer)
    del state["scaler"]
    state.pop("kept_collaborative_score", None)
    (state["random"],) = state["random"]
    if system == "recsysllm":
        del state["rows_per_step"]
    optimizer = {key.replace("random/0/", "random/"): each for key, each in optimizer.items()}
    return Checkpoint(checkpoint.model, state, optimizer)


@pytest.mark.slow
@pytest.mark.parametrize("system", ["bricks", "cllm4rec", "recsysllm"])
def test_a_checkpoint_of_before_resumes_to_the_same_bits_and_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    shared, take_step = SYSTEMS[system](tmp_path), trainer.take_step
    expected = run(into(shared, tmp_path / "whole"))
    config = into(shared, tmp_path / "former")

    def breaking(recipe: Recipe, *flags: Any) -> Any:
        if recipe.progress.step == 3:
            raise RuntimeError("killed")
        return take_step(recipe, *flags)

    monkeypatch.setattr(trainer, "take_step", breaking)
    with pytest.raises(RuntimeError, match="killed"):
        run(config)
    monkeypatch.undo()
    (last,) = (tmp_path / "former").glob("*/*/*/checkpoints/last")
    write_checkpoint(last, former(read_checkpoint(last), system))
    found = run(config)
    assert found["splits"]["test"]["rows"] == expected["splits"]["test"]["rows"]
    (whole,) = (tmp_path / "whole").glob("*/*/*/checkpoints/last")
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (last, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    best = last.parent / "best"
    write_checkpoint(best, former_best(read_checkpoint(best), system))
    (last.parents[1] / "results.json").unlink()
    assert run(config)["splits"]["test"]["rows"] == expected["splits"]["test"]["rows"]


def former_best(checkpoint: Checkpoint, system: str) -> Checkpoint:
    """``best`` as it used to be laid out; its random numbers were stored and never read."""
    state: dict[str, Any] = json.loads(json.dumps({**checkpoint.state, "files": None}))
    del state["files"]
    if system != "recsysllm":
        del state["system"]
    return Checkpoint(checkpoint.model, state)
