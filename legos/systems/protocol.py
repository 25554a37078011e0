"""What trains and scores a model: bricks, or a system of its own, behind one small protocol.

A run asks nothing else of them: locks, run folders, results, reports, baselines, comparisons and
tests of significance are the same for all. A system is imported when a model YAML names it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from legos.data.items import Interactions
from legos.evaluation.measure import SplitResult
from legos.runs.folder import RunFolder, Tracker


class System(Protocol):
    """One model over one data set."""

    @property
    def parameters(self) -> int:
        """Numbers that training changes."""

    def train(self, folder: RunFolder, tracker: Tracker) -> dict[str, Any]:
        """Train, going on from ``checkpoints/last``, and leave ``checkpoints/best``.

        Args:
            folder: of the run.
            tracker: told of losses and validations.

        Returns:
            What ``results.json`` says of the training: rows, steps, epochs, metric, best,
            best_epoch, seconds_per_epoch.

        Raises:
            LegosError: a loss or the watched metric is not finite.
            KeyboardInterrupt: a signal came; ``last`` is saved.
        """

    def load(self, checkpoint: Path) -> str:
        """Take trained weights; returns the id of the run that trained them.

        Raises:
            CheckpointError: damaged, or of another model.
        """

    def evaluate(self, interactions: Interactions, *, thorough: bool) -> SplitResult | None:
        """Score and measure a labelled split; the result in the main process, None in the others.

        Args:
            interactions: the split, on the accelerator's device.
            thorough: rows of kinds of items and users and the metrics beyond accuracy, too.
        """
