"""Keeps a training's checkpoints: goes on from ``last``, saves ``best`` and ``last``."""

from __future__ import annotations

from pathlib import Path

from legos.run.resume import resume_training, save_training
from legos.run.save_times import SaveTimes
from legos.run.tracking import Tracker
from legos.run.training import Training


class Keeper:
    """The checkpoints of one run.

    Args:
        training: what is saved and restored.
        folder: of ``best`` and ``last``.
        run_id: written into the checkpoints.
        tracker: whose lines are cut back to the checkpoint.
    """

    def __init__(self, training: Training, folder: Path, run_id: str, tracker: Tracker) -> None:
        self._training, self._folder = training, folder
        self._run_id, self._tracker = run_id, tracker
        self._times = SaveTimes(training.config.checkpoint_minutes)

    @property
    def due(self) -> bool:
        """Whether ``exp.train.checkpoint_minutes`` have gone by since the last save."""
        return self._times.due(self._training.progress.step)

    def resume(self) -> None:
        """Go on from ``last`` where there is one; lines recorded after it are forgotten."""
        position = resume_training(self._training, self._folder / "last", say=self._tracker.say)
        progress = self._training.progress
        self._tracker.rewind(position, progress.step)
        if progress.step:
            self._tracker.say(f"goes on after step {progress.step} of epoch {progress.epoch + 1}")

    def save(self, name: str) -> None:
        """Save ``best`` (the model alone) or ``last`` (all that a resume needs)."""
        save_training(
            self._training,
            self._folder / name,
            run_id=self._run_id,
            position=self._tracker.position,
            only_model=name == "best",
        )
        self._times.saved()
