"""Bricks as a system: an item encoder, a user encoder and a predictor, trained on clicks."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from legos.data.batch import Rows
from legos.data.interactions import Interactions, distinct_states
from legos.evaluation.measure import Scored, SplitResult, measure
from legos.evaluation.rank import Ranked, ranking_of
from legos.recommender import Recommender
from legos.runs.folder import RunFolder
from legos.runs.tracking import Tracker
from legos.systems.bricks.catalogue import rank_by_model
from legos.systems.bricks.losses import CATALOGUE_LOSSES
from legos.systems.bricks.recipe import BricksRecipe
from legos.systems.bricks.recommend import BricksRecommender
from legos.systems.bricks.score import score_split, score_split_directly
from legos.training.saved_state import load_trained
from legos.training.trainer import train
from legos.training.weights import seed_everything
from legos.workplace.workplace import Workplace


class Bricks:
    """The model of a YAML of bricks, see :class:`legos.systems.protocol.System`.

    Args:
        workplace: configuration, processes and data.
        say: told of vocabulary entries without a pretrained vector.
    """

    def __init__(
        self, workplace: Workplace, say: Callable[[str], None] = lambda text: None
    ) -> None:
        self.workplace = workplace
        self.model = workplace.model(say)

    @property
    def parameters(self) -> int:
        """Number of trained weights."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def train(self, folder: RunFolder, tracker: Tracker) -> dict[str, Any]:
        """Train, or resume training, to the last epoch or until early stopping."""
        workplace, config = self.workplace, self.workplace.config.exp.train
        rows = workplace.training_rows()
        seed_everything(config.seed, rank=workplace.accelerator.process_index)
        parameters = self.parameters
        recipe = BricksRecipe(
            workplace.accelerator,
            self.model,
            workplace.store,
            rows,
            config,
            profiles=workplace.profiles,
            impression_name=lambda row: workplace.impression_name(row, rows),
        )
        tracker.say(
            f"{folder.path}: {parameters:,} trained parameters, {len(rows):,} training "
            f"rows, {recipe.stream.steps_per_epoch:,} steps per epoch"
        )
        valid = workplace.split(workplace.config.data.splits.valid)
        for notice in training_notices(workplace, rows):
            tracker.say(notice)

        def validate() -> SplitResult | None:
            return evaluate(workplace, self.model, valid, thorough=False)

        trained = train(recipe, validate, folder, tracker)
        progress = recipe.progress
        epochs = max(1, progress.step) / recipe.stream.steps_per_epoch
        return {
            "rows": len(rows),
            "steps_per_pass": recipe.stream.steps_per_pass,
            **trained,
            "epochs": progress.epoch,
            "seconds_per_epoch": round(progress.seconds / epochs, 3),
        }

    def load(self, checkpoint: Path) -> str:
        """Load a checkpoint's weights; returns the id of the run that trained them."""
        return load_trained(self.model, checkpoint, BricksRecipe.system)

    def evaluate(self, interactions: Interactions, *, thorough: bool) -> SplitResult | None:
        """Score and measure a split."""
        return evaluate(self.workplace, self.model, interactions, thorough=thorough)

    def recommender(self) -> BricksRecommender:
        """The loaded weights as a recommender."""
        return BricksRecommender(self.workplace, self.model)


def score(workplace: Workplace, model: Recommender, interactions: Interactions) -> Scored:
    """Score every candidate of a split; every process takes part and gets all scores."""
    begin = time.perf_counter()
    config = workplace.config.exp.evaluate
    if not config.fast_eval:
        direct = score_split_directly(
            model, workplace.store, interactions, profiles=workplace.profiles
        ).numpy()
        return Scored(direct, None, time.perf_counter() - begin)
    scores, item_vectors = score_split(
        model,
        workplace.store,
        interactions,
        profiles=workplace.profiles,
        page_size=config.page_size,
        sharing=workplace.sharing,
    )
    return Scored(scores.numpy(), item_vectors, time.perf_counter() - begin)


def evaluate(
    workplace: Workplace, model: Recommender, interactions: Interactions, *, thorough: bool
) -> SplitResult | None:
    """Score and measure a labelled split; the result in the main process, None in the others.

    Args:
        workplace: configuration, processes, items.
        model: to score with.
        interactions: the split, on the model's device.
        thorough: rows of kinds of items and users and the metrics beyond accuracy, too.
    """
    config = workplace.config.exp.evaluate
    found: Scored | Ranked
    if config.ranking == "all":
        found = rank_by_model(
            model,
            workplace.store,
            interactions,
            ranking_of(workplace, interactions),
            profiles=workplace.profiles,
            page_size=config.page_size,
            k=config.beyond_accuracy_k if thorough else None,
            sharing=workplace.sharing,
        )
    else:
        found = score(workplace, model, interactions)
    if not workplace.accelerator.is_main_process:
        return None
    return measure(workplace, found, interactions, thorough=thorough)


def training_notices(workplace: Workplace, rows: Rows) -> list[str]:
    """Return notices about settings that are valid but probably not intended."""
    own, lines = workplace.config.exp.train, []
    if rows.histories.all_empty:
        hint = ""
        if own.history == "given":
            hint = "; exp.train.history: clicks makes one of an impression's other clicks"
        lines.append(f"no training row has a history to encode a user from{hint}")
    if own.loss in CATALOGUE_LOSSES and workplace.config.bricks.item.name != "id":
        lines.append(
            f"exp.train.loss {own.loss} encodes all {len(workplace.store):,} items in every "
            f"micro-batch; item encoder {workplace.config.bricks.item.name} may take long, and "
            "exp.train.item_page_size bounds its memory"
        )
    return lines


def ranking_cost(workplace: Workplace) -> str:
    """Describe how ``exp.evaluate.ranking: all`` computes its scores, and how many."""
    model, data = workplace.config.bricks, workplace.config.data
    states = sum(
        distinct_states(workplace.split(split))[0].users.numel() for split in data.splits.test
    )
    offered = int(workplace.tables.offered.sum())
    how = "a network over each pair; slower than a product of vectors"
    if model.user.output not in ("vector", "interests"):
        how = f"{model.user.name} makes another user for every item, which is very slow"
    elif model.predictor.scores_catalogue:
        how = "products of all users with all items"
    return f"ranking all: {states:,} test histories x {offered:,} items: {how}"
