"""Saving and loading the complete state of a training.

``last`` has what a resume needs: trained weights, moments, random-number states, what the recipe
adds, and where the training stands. A run that was killed and resumed ends with the same bits as
one that was not. ``best`` has the trained weights alone, ``pretrained`` all but the moments. Frozen
weights are never stored, only their hashes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from torch import Tensor, nn

from legos.errors import CheckpointError
from legos.runs.checkpoint import Checkpoint, has_checkpoint, read_checkpoint, write_checkpoint
from legos.runs.tracking import Tracker
from legos.training.recipe import BEST, LAST, Recipe, TrainedRecord
from legos.training.weights import (
    below,
    check_frozen,
    frozen_hashes,
    load_model_tensors,
    load_optimizer_tensors,
    model_tensors,
    optimizer_tensors,
    random_tensors,
    random_values,
    restore_random,
    seed_everything,
)

_MOMENTS, _RANDOM = "moments/", "random/"

_RandomState = tuple[Mapping[str, Any], Mapping[str, Tensor]]
"""Values of python and numpy, tensors of torch."""


class SavedState:
    """Checkpoints of one run, written by the main process as often as ``exp.train`` says.

    Args:
        recipe: what is saved and restored.
        folder: of the checkpoints.
        run_id: stored in them.
        tracker: whose lines are cut back to the checkpoint.
    """

    def __init__(self, recipe: Recipe, folder: Path, run_id: str, tracker: Tracker) -> None:
        self._recipe, self._folder, self._run_id = recipe, folder, run_id
        self._tracker, self._saved_at = tracker, time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return (time.monotonic() - self._saved_at) / 60 > self._recipe.train.checkpoint_minutes

    @property
    def is_at_step(self) -> bool:
        """Whether it is time to save by the number of steps."""
        steps = self._recipe.train.checkpoint_steps
        return steps > 0 and self._recipe.progress.step % steps == 0

    def save(self, name: str) -> None:
        """Write a checkpoint under a name."""
        recipe, replicas = self._recipe, self._recipe.replicas
        values, tensors = recipe.state()
        random = [] if name == BEST else gather_object([(random_values(), random_tensors())])
        stored = {} if name == BEST else dict(tensors)
        for rank, (_, states) in enumerate(random):
            stored |= {f"{_RANDOM}{rank}/{key}": state for key, state in states.items()}
        if name == LAST:
            for key, optimizer in replicas.optimizers.items():
                moments = optimizer_tensors(replicas.trained, optimizer)
                stored |= {f"{_moments(key)}{each}": value for each, value in moments.items()}
        scaler = replicas.accelerator.scaler
        state: dict[str, Any] = {
            "system": recipe.system,
            "run": self._run_id,
            "progress": asdict(recipe.progress),
            "rows_per_step": recipe.rows_per_step,
            "early_stopping": recipe.early_stopping.state(),
            "metrics_position": self._tracker.position,
            "frozen": dict(recipe.frozen),
            "random": [values for values, _ in random],
            "scaler": None if scaler is None else scaler.state_dict(),
            **values,
        }
        checkpoint = Checkpoint(
            model=model_tensors(replicas.trained), state=state, optimizer=stored
        )
        if replicas.accelerator.is_main_process:
            write_checkpoint(self._folder / name, checkpoint)
        replicas.accelerator.wait_for_everyone()
        self._saved_at = time.monotonic()

    def resume(self) -> None:
        """Resume from ``last``, or start from the recipe's origin; drop lines recorded since.

        Raises:
            CheckpointError: damaged, of another model, or of another number of rows a step.
        """
        recipe, say, folder = self._recipe, self._tracker.say, self._folder / LAST
        if self._has(folder):
            position = self._restore(folder, moments=True)
            self._tracker.rewind(position, recipe.progress.step)
            segment = recipe.segment()
            where = "the end" if segment is None else segment.title
            say(f"resumes after step {recipe.progress.step} ({where})")
            return
        self._tracker.rewind(0, 0)
        origin = recipe.origin()
        if origin is not None:
            self._restore(origin, moments=False)
            say(f"starts from the pretraining of {origin}")
            recipe.begin()

    def _has(self, folder: Path) -> bool:
        """Whether a checkpoint exists; the main process cleans up after a crash."""
        accelerator = self._recipe.replicas.accelerator
        found = accelerator.is_main_process and has_checkpoint(folder)
        accelerator.wait_for_everyone()
        return found or has_checkpoint(folder)

    def _restore(self, folder: Path, *, moments: bool) -> int:
        """Load a checkpoint; returns the length in bytes of its part of metrics.jsonl."""
        recipe, replicas = self._recipe, self._recipe.replicas
        checkpoint = read_checkpoint(folder, recipe.record)
        state, stored = checkpoint.state, checkpoint.optimizer
        rows = state.get("rows_per_step", recipe.rows_per_step)
        if moments and rows != recipe.rows_per_step:
            raise CheckpointError(
                f"{folder}: saved with {rows} rows a step, now {recipe.rows_per_step}"
            )
        take_trained(replicas.trained, checkpoint, folder, recipe.system, frozen=recipe.frozen)
        recipe.progress = type(recipe.progress)(**state["progress"])
        recipe.early_stopping.load_state(state["early_stopping"])
        own = {
            key: value for key, value in stored.items() if not key.startswith((_MOMENTS, _RANDOM))
        }
        recipe.load_state(state, own, folder)
        if moments:
            for name, optimizer in replicas.optimizers.items():
                found = below(stored, _moments(name))
                load_optimizer_tensors(replicas.trained, optimizer, found, origin=folder)
        scaler = replicas.accelerator.scaler
        if scaler is not None and state.get("scaler"):
            scaler.load_state_dict(state["scaler"])
        self._restore_random(_random_states(state, stored), folder)
        return int(state["metrics_position"])

    def _restore_random(self, states: Sequence[_RandomState], folder: Path) -> None:
        """Restore this process's random states; other numbers of processes draw dropout anew."""
        accelerator = self._recipe.replicas.accelerator
        rank, processes = accelerator.process_index, accelerator.num_processes
        if len(states) == processes:
            restore_random(*states[rank], origin=folder)
            return
        seed_everything(self._recipe.train.seed + self._recipe.progress.step, rank=rank)
        self._tracker.say(
            f"saved by {len(states)} processes, resumed with {processes}; dropout differs from now "
            "on"
        )


def _random_states(state: Mapping[str, Any], stored: Mapping[str, Tensor]) -> list[_RandomState]:
    """Of every process; of the only one in a checkpoint of a system that once had no others."""
    values = state["random"]
    if isinstance(values, Mapping):
        return [(values, below(stored, _RANDOM))]
    return [(each, below(stored, f"{_RANDOM}{rank}/")) for rank, each in enumerate(values)]


def load_trained(
    model: nn.Module, folder: Path, system: str, *, frozen: Mapping[str, str] | None = None
) -> str:
    """Load a checkpoint for scoring; see :func:`take_trained`."""
    checkpoint = read_checkpoint(folder, TrainedRecord)
    return take_trained(model, checkpoint, folder, system, frozen=frozen)


def take_trained(
    model: nn.Module,
    checkpoint: Checkpoint,
    folder: Path,
    system: str,
    *,
    frozen: Mapping[str, str] | None = None,
) -> str:
    """Copy the trained weights of a checkpoint into a model; the id of the run that trained them.

    Args:
        model: of the same settings.
        checkpoint: of ``folder``.
        folder: named by errors.
        system: that the model belongs to.
        frozen: hashes of the model's weights that are not trained, where they are known.

    Raises:
        CheckpointError: of another system or model, or with other frozen weights.
    """
    found = checkpoint.state.get("system", system)
    if found != system:
        raise CheckpointError(f"{folder}: a checkpoint of {found}; expected one of {system}")
    load_model_tensors(model, checkpoint.model, origin=folder)
    frozen = frozen_hashes(model) if frozen is None else frozen
    check_frozen(frozen, checkpoint.state["frozen"], origin=folder)
    return str(checkpoint.state["run"])


def _moments(optimizer: str) -> str:
    """Location of an optimizer's moments; a single optimizer has no name."""
    return f"{_MOMENTS}{optimizer}/" if optimizer else _MOMENTS
