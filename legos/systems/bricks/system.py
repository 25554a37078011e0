"""Bricks as a system: an item encoder, a user encoder and a predictor, trained on clicks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from legos.data.interactions import Interactions
from legos.evaluation.measure import SplitResult
from legos.metrics.subsets import ALL
from legos.runs.folder import RunFolder
from legos.runs.tracking import Tracker
from legos.systems.bricks.evaluate import evaluate
from legos.systems.bricks.notices import training_notices
from legos.systems.bricks.recipe import BricksRecipe
from legos.training.random_state import seed_everything
from legos.training.saved_state import SavedState, load_trained
from legos.training.trainer import Trainer
from legos.workplace.workplace import Workplace


class Bricks:
    """The model of a YAML of bricks, see :class:`legos.systems.protocol.System`.

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
        recipe = BricksRecipe(
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
            f"rows, {recipe.stream.steps_per_epoch:,} steps an epoch"
        )
        valid = place.split(place.config.data.splits.valid)
        for notice in training_notices(place, rows):
            tracker.say(notice)

        def validate() -> dict[str, float]:
            result = evaluate(place, recipe.replicas.whole(), valid, thorough=False)
            return result.rows[ALL] if result else {}

        saved = SavedState.of_run(recipe, folder, tracker, config)
        Trainer(recipe, validate, saved, tracker).train()
        stopping, progress = recipe.early_stopping, recipe.progress
        epochs = progress.step / recipe.stream.steps_per_epoch
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
        return load_trained(self.model, checkpoint, BricksRecipe.system)

    def evaluate(self, interactions: Interactions, *, thorough: bool) -> SplitResult | None:
        """Score and measure a split."""
        return evaluate(self.place, self.model, interactions, thorough=thorough)
