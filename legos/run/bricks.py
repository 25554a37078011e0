"""Bricks as a system: an item encoder, a user encoder and a predictor, trained on clicks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list

from legos.data.interactions import Interactions
from legos.metrics.subsets import ALL
from legos.run.assemble import Workplace
from legos.run.evaluate import evaluate
from legos.run.folder import RunFolder
from legos.run.measure import SplitResult
from legos.run.notices import training_notices
from legos.run.random_state import seed_everything
from legos.run.resume import load_model
from legos.run.tracking import Tracker
from legos.run.train import train
from legos.run.training import Training


class Bricks:
    """The model of a YAML of bricks, see :class:`legos.run.systems.System`.

    Args:
        place: configuration, processes and data.
        say: told of vocabulary entries without a pretrained vector.
    """

    def __init__(self, place: Workplace, say: Callable[[str], None] = lambda text: None) -> None:
        self.place = place
        self.model = place.model(say)

    @property
    def parameters(self) -> int:
        """Numbers that training changes."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def train(self, folder: RunFolder, tracker: Tracker) -> dict[str, Any]:
        """Train (or go on training) to the last epoch or until early stopping."""
        place, config = self.place, self.place.config.exp.train
        rows = place.training_rows()
        seed_everything(config.seed, rank=place.accelerator.process_index)
        parameters = self.parameters
        training = Training(
            place.accelerator,
            self.model,
            place.store,
            rows,
            config,
            profiles=place.profiles,
            impression_name=lambda row: place.impression_name(row, rows),
        )
        tracker.say(
            f"{folder.path}: {parameters:,} trained parameters, {len(rows):,} training "
            f"rows, {training.stream.steps_per_epoch:,} steps an epoch"
        )
        valid = place.split(place.config.data.splits.valid)
        for notice in training_notices(place, rows):
            tracker.say(notice)

        def validate() -> dict[str, float]:
            result = evaluate(place, training.whole_model(), valid, thorough=False)
            found: list[dict[str, float]] = [result.rows[ALL] if result else {}]
            metrics: dict[str, float] = broadcast_object_list(found)[0]
            return metrics

        train(training, validate, checkpoints=folder.checkpoints, run_id=folder.id, tracker=tracker)
        stopping, progress = training.early_stopping, training.progress
        epochs = progress.step / training.stream.steps_per_epoch
        return {
            "rows": len(rows),
            "steps": progress.step,
            "epochs": progress.epoch,
            "metric": stopping.metric,
            "best": stopping.best,
            "best_epoch": stopping.best_epoch,
            "seconds_per_epoch": round(progress.seconds / epochs, 3),
        }

    def load(self, checkpoint: Path) -> str:
        """Take a checkpoint's weights; returns the id of the run that trained them."""
        return str(load_model(self.model, checkpoint)["run"])

    def evaluate(self, interactions: Interactions, *, thorough: bool) -> SplitResult | None:
        """Score and measure a split."""
        return evaluate(self.place, self.model, interactions, thorough=thorough)
