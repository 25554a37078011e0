"""What the files of a run say: schemas of ``results.json`` and ``metrics.jsonl``."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from legos.metrics.subsets import ALL
from legos.records import Count, Record


class SplitRecord(Record):
    """:meth:`legos.evaluation.measure.SplitResult.summary`."""

    rows: dict[str, dict[str, float]]
    counts: dict[str, dict[str, Count]]
    seconds: float

    @model_validator(mode="after")
    def _has_all(self) -> Self:
        for name, subsets in (("rows", self.rows), ("counts", self.counts)):
            if ALL not in subsets:
                raise ValueError(f"{name}.{ALL}: this key is missing")
        return self


class TrainingRecord(Record):
    """What a training took."""

    seconds_per_epoch: float
    peak_memory_mb: dict[str, float]
    best: float | None = None
    best_epoch: Count | None = None
    metric: str | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if "process" not in self.peak_memory_mb:
            raise ValueError("peak_memory_mb.process: this key is missing")
        if self.best is not None and (self.metric is None or self.best_epoch is None):
            raise ValueError("best: expected the keys metric and best_epoch beside it")
        return self


Baselines = dict[str, dict[str, SplitRecord]]


class WithBaselines(Record):
    """``results.json`` of a comparison, as far as it is read again."""

    baselines: Baselines = Field(default_factory=dict)


class MeasurementRecord(WithBaselines):
    """One of the ``measurements``."""

    splits: dict[str, SplitRecord]


class ResultsRecord(WithBaselines):
    """``results.json`` of a run."""

    run: str
    data: str
    fingerprint: str
    model: str
    seed: int
    parameters: Count
    processes: Count
    splits: dict[str, SplitRecord]
    measurement: str = ""
    measurements: dict[str, MeasurementRecord] = Field(default_factory=dict)
    # may be absent, but is never null
    training: TrainingRecord = Field(default=None)  # type: ignore[assignment]


class Line(Record):
    """A line of ``metrics.jsonl``."""

    kind: str


class TrainLine(Record):
    """A line of ``metrics.jsonl`` about some training steps."""

    step: Count
    loss: float


class ValidLine(Record):
    """A line of ``metrics.jsonl`` about an epoch."""

    epoch: Count
    step: Count
    train_loss: float | None = None
    metrics: dict[str, float]


LINES: dict[str, type[Record]] = {"train": TrainLine, "valid": ValidLine}
