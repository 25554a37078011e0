"""Early stopping: the best epoch, and patience with the epochs after it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from legos.errors import LegosError, nearest
from legos.metrics import parse_metric
from legos.records import Count, Record

if TYPE_CHECKING:
    from legos.config.train_schema import TrainConfig


class EarlyStoppingRecord(Record):
    """:meth:`EarlyStopping.state`."""

    best: float | None
    best_epoch: Count
    epochs_since: Count


@dataclass
class EarlyStopping:
    """The best epoch so far and how long ago it was.

    Attributes:
        metric: name of the validation metric to watch.
        maximize: whether more is better.
        patience: epochs in a row without improvement after which training stops; 0 = never.
        best: best value so far.
        best_epoch: its epoch, counted from 1; 0 = none yet.
        epochs_since: epochs since the best one.
    """

    metric: str
    maximize: bool
    patience: int
    best: float | None = None
    best_epoch: int = 0
    epochs_since: int = 0

    @classmethod
    def of(cls, train: TrainConfig) -> EarlyStopping:
        """Build from ``exp.train``."""
        return cls(train.metric, parse_metric(train.metric).maximize, train.patience)

    @property
    def stop(self) -> bool:
        """Whether patience has run out."""
        return 0 < self.patience <= self.epochs_since

    def watched(self, metrics: Mapping[str, float]) -> float:
        """The watched metric.

        Raises:
            LegosError: it was not computed.
        """
        by_lower_case = {name.lower(): value for name, value in metrics.items()}
        value = by_lower_case.get(self.metric.lower())
        if value is None:
            raise LegosError(
                f"exp.train.metric: {self.metric!r} is not among the validation metrics; "
                f"{nearest(self.metric, metrics)}"
            )
        return value

    def update(self, metrics: Mapping[str, float], *, epoch: int) -> bool:
        """Record an epoch's validation metrics; returns whether it is the best so far.

        Raises:
            LegosError: the metric was not computed or is not a finite number.
        """
        value = self.watched(metrics)
        if not math.isfinite(value):
            raise LegosError(
                f"validation metric {self.metric} is {value} after epoch {epoch}, so epochs cannot "
                "be compared; does every validation group contain clicks and non-clicks?"
            )
        improved = self.best is None or (value > self.best if self.maximize else value < self.best)
        if improved:
            self.best, self.best_epoch, self.epochs_since = float(value), epoch, 0
        else:
            self.epochs_since += 1
        return improved

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        return {
            "best": self.best,
            "best_epoch": self.best_epoch,
            "epochs_since": self.epochs_since,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Resume from ``state()``."""
        self.best = state["best"]
        self.best_epoch = int(state["best_epoch"])
        self.epochs_since = int(state["epochs_since"])
