"""All that a training is, to and from a checkpoint.

A run that was killed and resumed ends with the same bits as one that was not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from torch import Tensor, nn

from legos.errors import CheckpointError
from legos.records import Count
from legos.run.checkpoint import (
    Checkpoint,
    has_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from legos.run.random_state import (
    random_tensors,
    random_values,
    restore_random,
    seed_everything,
)
from legos.run.records import RandomRecord, ResumableRecord, TrainedRecord, record_of
from legos.run.training import Progress, Training
from legos.run.weights import (
    below,
    check_frozen,
    frozen_hashes,
    load_model_tensors,
    load_optimizer_tensors,
    model_tensors,
    optimizer_tensors,
)

_MOMENTS, _RANDOM = "moments/", "random/"


class _Resumable(ResumableRecord):
    """What training needs of ``state.json``."""

    progress: record_of(Progress)  # type: ignore[valid-type]
    rows_per_step: Count
    random: list[RandomRecord]
    scaler: dict[str, Any] | None


def save_training(
    training: Training, folder: Path, *, run_id: str, position: int, only_model: bool = False
) -> None:
    """Write a checkpoint; every process must call it, the main one writes.

    Args:
        training: what to save.
        folder: the checkpoint's folder.
        run_id: of the run.
        position: bytes of metrics.jsonl that belong to it.
        only_model: leave out what only a resume needs.
    """
    accelerator, model = training.accelerator, training.bare_model
    stored: dict[str, Tensor] = {}
    random = [] if only_model else gather_object([(random_values(), random_tensors())])
    if not only_model:
        moments = optimizer_tensors(model, training.optimizer.optimizer)
        stored = {_MOMENTS + name: tensor for name, tensor in moments.items()}
        for rank, (_, tensors) in enumerate(random):
            stored |= {f"{_RANDOM}{rank}/{name}": state for name, state in tensors.items()}
    state: dict[str, Any] = {
        "run": run_id,
        "progress": asdict(training.progress),
        "rows_per_step": training.stream.rows_per_step,
        "early_stopping": training.early_stopping.state(),
        "metrics_position": position,
        "frozen": training.frozen,
        "random": [values for values, _ in random],
        "scaler": accelerator.scaler.state_dict() if training.scales_gradients else None,
    }
    checkpoint = Checkpoint(model=model_tensors(model), state=state, optimizer=stored)
    if accelerator.is_main_process:
        write_checkpoint(folder, checkpoint)
    accelerator.wait_for_everyone()


def resume_training(
    training: Training, folder: Path, *, say: Callable[[str], None] = lambda text: None
) -> int:
    """Go on from a checkpoint where there is one.

    Bit for bit with as many processes as before; with others dropout draws anew from here on.

    Args:
        training: brought to where the checkpoint stands.
        folder: of the checkpoint.
        say: told of another number of processes.

    Returns:
        The bytes of metrics.jsonl that belong to it; 0 where there is none.

    Raises:
        CheckpointError: it is damaged, of another model, or of another number of rows a step.
    """
    accelerator = training.accelerator
    found = has_checkpoint(folder) if accelerator.is_main_process else False
    accelerator.wait_for_everyone()
    found = found or has_checkpoint(folder)
    if not found:
        return 0
    checkpoint = read_checkpoint(folder, _Resumable)
    state = checkpoint.state
    processes = len(state["random"])
    if state["rows_per_step"] != training.stream.rows_per_step:
        raise CheckpointError(
            f"{folder}: saved with {state['rows_per_step']} rows a step, now "
            f"{training.stream.rows_per_step}"
        )
    model = training.bare_model
    load_model_tensors(model, checkpoint.model, origin=folder)
    check_frozen(training.frozen, state["frozen"], origin=folder)
    moments = below(checkpoint.optimizer, _MOMENTS)
    load_optimizer_tensors(model, training.optimizer.optimizer, moments, origin=folder)
    training.progress = Progress(**state["progress"])
    training.early_stopping.load_state(state["early_stopping"])
    if training.scales_gradients and state["scaler"]:
        accelerator.scaler.load_state_dict(state["scaler"])
    rank = accelerator.process_index
    if processes == accelerator.num_processes:
        restore_random(
            state["random"][rank],
            below(checkpoint.optimizer, f"{_RANDOM}{rank}/"),
            origin=folder,
        )
    else:
        seed_everything(training.config.seed + training.progress.step, rank=rank)
        say(
            f"saved by {processes} processes, goes on with {accelerator.num_processes}: dropout "
            "differs from here on"
        )
    return int(state["metrics_position"])


def load_model(model: nn.Module, folder: Path) -> dict[str, Any]:
    """Load a checkpoint's weights for scoring; returns its state.

    Raises:
        CheckpointError: it is missing, damaged, or of another model.
    """
    checkpoint = read_checkpoint(folder, TrainedRecord)
    load_model_tensors(model, checkpoint.model, origin=folder)
    check_frozen(frozen_hashes(model), checkpoint.state["frozen"], origin=folder)
    return dict(checkpoint.state)
