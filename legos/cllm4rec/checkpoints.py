"""All that a training of CLLM4Rec is, to and from a checkpoint.

``last`` has tables, moments of both optimizers, kept content tables, where the training stands and
the states of all random numbers, so that a run that was killed and resumed ends with the same bits.
``best`` and ``pretrained`` are the tables alone, and what finetuning needs to begin.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from legos.cllm4rec.model import Cllm4Rec
from legos.cllm4rec.training import KeptContent, Progress, StageTraining
from legos.errors import CheckpointError
from legos.records import Count
from legos.run.checkpoint import (
    Checkpoint,
    has_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from legos.run.random_state import random_tensors, random_values, restore_random
from legos.run.records import RandomRecord, ResumableRecord, TrainedRecord, record_of
from legos.run.save_times import SaveTimes
from legos.run.tracking import Tracker
from legos.run.weights import (
    below,
    check_frozen,
    frozen_hashes,
    load_optimizer_tensors,
    optimizer_tensors,
)

LAST, BEST, PRETRAINED = "last", "best", "pretrained"
_RANDOM, _KEPT, _MOMENTS = "random/", "kept/", "moments/"


class _Resumable(ResumableRecord):
    """What training needs of ``state.json``."""

    progress: record_of(Progress)  # type: ignore[valid-type]
    rows_per_step: dict[str, Count]
    kept_score: float | None
    random: RandomRecord


class StageKeeper:
    """The checkpoints of one run.

    Args:
        training: what is saved and restored.
        folder: of the checkpoints.
        run_id: written into them.
        tracker: whose lines are cut back to the checkpoint.
        minutes: save at least so often.
        steps: save every so many steps, too; 0: by time alone.
    """

    def __init__(
        self,
        training: StageTraining,
        folder: Path,
        run_id: str,
        tracker: Tracker,
        *,
        minutes: float,
        steps: int,
    ) -> None:
        self._training, self._folder, self._run_id = training, folder, run_id
        self._tracker, self._times = tracker, SaveTimes(minutes, steps)
        self._frozen = frozen_hashes(training.model.backbone)

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return self._times.due(self._training.progress.step)

    def path(self, name: str) -> Path:
        """Folder of a checkpoint."""
        return self._folder / name

    def save(self, name: str) -> None:
        """Write a checkpoint of that name; moments only into ``last``."""
        training = self._training
        stored = {_RANDOM + key: state for key, state in random_tensors().items()}
        stored |= {_KEPT + key: tensor for key, tensor in training.kept.tensors.items()}
        if name == LAST:
            for side, optimizer in training.optimizers.items():
                moments = optimizer_tensors(training.model, optimizer)
                stored |= {f"{_MOMENTS}{side}/{key}": value for key, value in moments.items()}
        state: dict[str, Any] = {
            "run": self._run_id,
            "progress": asdict(training.progress),
            "rows_per_step": {t: each.rows_per_step for t, each in training.streams.items()},
            "early_stopping": training.early_stopping.state(),
            "kept_score": training.kept.score,
            "metrics_position": self._tracker.position,
            "frozen": self._frozen,
            "random": random_values(),
        }
        tensors = {} if name == BEST else stored
        checkpoint = Checkpoint(training.model.trained_state(), state, tensors)
        write_checkpoint(self._folder / name, checkpoint)
        self._times.saved()

    def resume(self) -> bool:
        """Go on from ``last``, where there is one; lines recorded after it are forgotten."""
        folder = self._folder / LAST
        if not has_checkpoint(folder):
            self._tracker.rewind(0, 0)
            return False
        position = self._restore(folder, moments=True)
        progress = self._training.progress
        self._tracker.rewind(position, progress.step)
        stage = self._training.stage
        where = "the end" if stage is None else f"{stage.name}, epoch {progress.epoch + 1}"
        self._tracker.say(f"goes on after step {progress.step} ({where})")
        return True

    def start_from(self, pretrained: Path) -> None:
        """Begin where another run of the same settings had ended its pretraining.

        Raises:
            CheckpointError: it is damaged or of another model.
        """
        self._restore(pretrained, moments=False)

    def _restore(self, folder: Path, *, moments: bool) -> int:
        training, checkpoint = self._training, read_checkpoint(folder, _Resumable)
        state = checkpoint.state
        rows = {task: stream.rows_per_step for task, stream in training.streams.items()}
        if moments and state["rows_per_step"] != rows:
            raise CheckpointError(
                f"{folder}: saved with {state['rows_per_step']} rows a step, now {rows}"
            )
        check_frozen(self._frozen, state["frozen"], origin=folder)
        training.model.load_trained_state(checkpoint.model)
        training.progress = _progress(training, state["progress"], folder)
        training.early_stopping.load_state(state["early_stopping"])
        kept = below(checkpoint.optimizer, _KEPT)
        training.kept = KeptContent(state["kept_score"], kept)
        if moments:
            stage = training.stage or training.stages[-1]
            training.renew_optimizers(stage.lr)
            for side, optimizer in training.optimizers.items():
                found = below(checkpoint.optimizer, f"{_MOMENTS}{side}/")
                load_optimizer_tensors(training.model, optimizer, found, origin=folder)
        restore_random(state["random"], below(checkpoint.optimizer, _RANDOM), origin=folder)
        return int(state["metrics_position"])


def _progress(training: StageTraining, found: dict[str, Any], folder: Path) -> Progress:
    """Where a training stands, if this one has such a place."""
    progress = Progress(**found)
    stages = training.stages
    inside = progress.stage < len(stages) and progress.part <= len(stages[progress.stage].passes)
    ended = (progress.stage, progress.part) == (len(stages), 0)
    if not (inside or ended) or progress.done.keys() != Progress().done.keys():
        raise CheckpointError(
            f"{folder}: stands in stage {progress.stage}, pass {progress.part} (steps of "
            f"{', '.join(progress.done)}), which this training does not have"
        )
    return progress


def load_tables(model: Cllm4Rec, folder: Path) -> str:
    """Take what was trained for scoring; returns the id of the run that did.

    Raises:
        CheckpointError: missing, damaged, or of another model.
    """
    checkpoint = read_checkpoint(folder, TrainedRecord)
    model.load_trained_state(checkpoint.model)
    check_frozen(frozen_hashes(model.backbone), checkpoint.state["frozen"], origin=folder)
    return str(checkpoint.state["run"])
