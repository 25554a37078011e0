"""A baseline as a system: fitted once, saved, measured like every model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from scipy import sparse
from torch import Tensor

from legos.baselines.base import Arrays, HistoryBaseline, make_baseline
from legos.baselines.data import FitData, shares
from legos.data.interactions import Interactions, States
from legos.errors import DataError
from legos.evaluation.baselines import what_data_have
from legos.evaluation.measure import SplitResult, measure_scorer
from legos.evaluation.texts import own_text_vectors
from legos.metrics.beyond import ALL
from legos.registry import BaselineConfig, Need
from legos.runs.checkpoint import has_checkpoint
from legos.runs.folder import RunFolder
from legos.runs.tracking import Tracker
from legos.systems.fitted.kept import keep, kept
from legos.systems.fitted.recommend import FittedRecommender
from legos.systems.fitted.settings import FittedModel
from legos.training.recipe import BEST, LAST
from legos.training.trainer import Interruption
from legos.workplace.workplace import Workplace

_LACKING: dict[Need, str] = {
    "texts": "the items have no text field",
    "text_vectors": "the items have no text field",
    "times": "no click of the training split has a time",
}


class Fitted:
    """A baseline over a data set, see :class:`legos.systems.protocol.System`.

    Raises:
        DataError: the data lack what the method reads.
    """

    def __init__(
        self, workplace: Workplace, say: Callable[[str], None] = lambda text: None
    ) -> None:
        del say
        config, self.workplace = workplace.config, workplace
        self.settings = FittedModel.of(config.model)
        self.method = _method(self.settings.method, config.exp.train.seed)
        self.learned: Arrays = {}
        tables, train = workplace.tables, config.data.splits.train
        lacking = sorted(self.settings.method.needs - what_data_have(tables, train))
        if lacking:
            raise DataError(
                f"{tables.folder}: {_LACKING[lacking[0]]}, which model {config.model.name} (method "
                f"{self.settings.method.name}) is fitted to; take another, such as item_knn"
            )

    @property
    def parameters(self) -> int:
        """Number of learned values; 0 before fitting."""
        return sum(each.nnz if sparse.issparse(each) else each.size for each in self._arrays)

    @property
    def _arrays(self) -> Sequence[Any]:
        return list(self.learned.values())

    def data(self) -> FitData:
        """The data that the method is fitted to."""
        workplace, text_model = self.workplace, self.settings.text_model
        compares = "text_vectors" in self.settings.method.needs
        return FitData(
            workplace.tables,
            train=workplace.config.data.splits.train,
            text_model=text_model,
            own_vectors=own_text_vectors(workplace, text_model) if compares else None,
        )

    def train(self, folder: RunFolder, tracker: Tracker) -> dict[str, Any]:
        """Fit in the main process, save, and measure on the valid split."""
        workplace, best = self.workplace, folder.checkpoints / BEST
        begin = time.monotonic()
        data, stages = self.data(), 0
        if workplace.accelerator.is_main_process:
            tracker.rewind(0, 0)
            tracker.say(
                f"{folder.path}: {self.method.title}, fitted to {data.reads.nnz:,} reads of "
                f"{data.reads.shape[1]:,} items by {data.reads.shape[0]:,} users"
            )
            stages = self._fit(data, folder, tracker)
            self._keep(best, folder, stages)
        workplace.accelerator.wait_for_everyone()
        if not workplace.accelerator.is_main_process:
            self.load(best)
        seconds = time.monotonic() - begin
        valid = workplace.split(workplace.config.data.splits.valid)
        return {
            "rows": data.reads.nnz,
            "steps": stages,
            "epochs": 1,
            "seconds_per_epoch": round(seconds, 3),
            **self._watched(self.evaluate(valid, thorough=False), seconds, tracker),
        }

    def _fit(self, data: FitData, folder: RunFolder, tracker: Tracker) -> int:
        """Fit, resuming from ``checkpoints/last``; returns the number of stages."""
        last, minutes = (
            folder.checkpoints / LAST,
            self.workplace.config.exp.train.checkpoint_minutes,
        )
        begun, stages = None, 0
        if has_checkpoint(last):
            begun, stages = self._kept(last)
            self.learned = begun
            tracker.say(f"resumes after stage {stages}")
        saved = time.monotonic()
        with Interruption(tells=not tracker.console.quiet) as interruption:
            for learned in self.method.stages(data, begun, stages):
                self.learned, stages = learned, stages + 1
                if interruption.requested or (time.monotonic() - saved) / 60 > minutes:
                    self._keep(last, folder, stages)
                    saved = time.monotonic()
                if interruption.requested:
                    tracker.say(f"interrupted after stage {stages}; saved, will resume")
                    raise KeyboardInterrupt
        return stages

    def _watched(
        self, found: SplitResult | None, seconds: float, tracker: Tracker
    ) -> dict[str, Any]:
        """Log the result of the valid split, in the main process."""
        if found is None:
            return {}
        metric = self.workplace.config.exp.train.metric
        metrics = {name: each for name, each in found.rows[ALL].items() if math.isfinite(each)}
        place = {"kind": "valid", "epoch": 1, "step": 1}
        tracker.record({**place, "metrics": metrics, "best": True, "seconds": round(seconds, 3)})
        shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        tracker.say(f"fitted in {seconds:.1f} s  valid {shown}")
        return {"metric": metric, "best": metrics[metric], "best_epoch": 1} if metrics else {}

    def _keep(self, checkpoint: Path, folder: RunFolder, stages: int) -> None:
        keep(
            checkpoint,
            self.learned,
            run=folder.id,
            method=self.settings.method.name,
            items=self.workplace.tables.num_items,
            stages=stages,
        )

    def _kept(self, checkpoint: Path) -> tuple[Arrays, int]:
        items = self.workplace.tables.num_items
        learned, state = kept(checkpoint, method=self.settings.method.name, items=items)
        return learned, state.stages

    def load(self, checkpoint: Path) -> str:
        """Load a fitted method; returns the id of the run that fitted it."""
        items = self.workplace.tables.num_items
        self.learned, state = kept(checkpoint, method=self.settings.method.name, items=items)
        return state.run

    def evaluate(self, interactions: Interactions, *, thorough: bool) -> SplitResult | None:
        """Score and measure a labelled split; the result in the main process."""
        score, device = self.method.scorer(self.learned), interactions.users.device
        histories = shares(interactions.histories.to("cpu"), self.workplace.tables.num_items)

        def scorer(states: States) -> Callable[[Tensor], Tensor]:
            rows = histories[states.histories.cpu().numpy()]

            def page(some: Tensor) -> Tensor:
                found = score(rows[some.cpu().numpy()])
                return torch.from_numpy(np.asarray(found, np.float32)).to(device)

            return page

        return measure_scorer(self.workplace, scorer, interactions, thorough=thorough)

    def recommender(self) -> FittedRecommender:
        """The fitted method as a recommender."""
        config = self.workplace.config
        return FittedRecommender(
            self.workplace.tables.offered,
            self.workplace.accelerator.device,
            name=config.model.name,
            method=self.method,
            learned=self.learned,
            history_length=config.data.history_length,
        )


def _method(settings: BaselineConfig, seed: int) -> HistoryBaseline[BaselineConfig]:
    """The method, with the seed of the training if it has none itself."""
    if getattr(settings, "seed", 0) is None:
        settings = settings.model_copy(update={"seed": seed})
    made = make_baseline(settings)
    assert isinstance(made, HistoryBaseline)  # noqa: S101 - the settings say so
    return made


def show(workplace: Workplace, console: Console, new_data: bool, processes: Sequence[int]) -> None:
    """Print the method and the data that it would be fitted to."""
    del new_data, processes
    system = Fitted(workplace)
    reads = system.data().reads
    console.print(
        f"{system.method.title}, fitted to {reads.nnz:,} reads of {reads.shape[1]:,} items by "
        f"{reads.shape[0]:,} users, without gradient steps"
    )
