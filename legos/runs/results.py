"""``results.json`` of a run: how it was trained, and what each way of measuring it gave.

    training, parameters, ...          of the run
    measurement, splits, baselines     what was asked for last: report and tables show it
    measurements                       by id all that was measured, with its settings

Other metrics, other test splits and other baselines measure again and train nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from legos.metrics.beyond import ALL
from legos.progress import PlainConsole, progress_bar
from legos.records import Count, Record
from legos.runs.identity import Identity


class Measurement:
    """What was measured of one run with one set of settings; the caller fills it.

    Args:
        results: what ``results.json`` holds so far.
        identity: of the measurement.

    Attributes:
        splits: by name what the model reaches.
        baselines: by split and name what baselines reach.
    """

    def __init__(self, results: Mapping[str, Any], identity: Identity) -> None:
        self.id, self._identity = identity.id, identity
        known = results.get("measurements", {}).get(self.id, {})
        self.splits: dict[str, Any] = dict(known.get("splits", {}))
        self.baselines: dict[str, dict[str, Any]] = dict(known.get("baselines", {}))

    def shown_in(
        self, results: Mapping[str, Any], splits: Sequence[str], baselines: Sequence[str]
    ) -> dict[str, Any]:
        """The results with this measurement kept, and shown as far as it is asked for.

        Args:
            results: of the run.
            splits: names of test splits, in the order of tables.
            baselines: their names, in the order of tables.
        """
        beside = {
            split: {name: found[name] for name in baselines if name in found}
            for split in splits
            for found in [self.baselines.get(split, {})]
        }
        kept = {
            "settings": dict(self._identity.settings),
            "sources": dict(self._identity.sources),
            "splits": self.splits,
            "baselines": self.baselines,
        }
        return {
            **results,
            "measurement": self.id,
            "splits": {split: self.splits[split] for split in splits if split in self.splits},
            "baselines": {split: found for split, found in beside.items() if found},
            "measurements": {**results.get("measurements", {}), self.id: kept},
        }


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


METRICS_FILE, LOG_FILE, EVENTS_FOLDER = "metrics.jsonl", "log.txt", "events"


class Tracker:
    """Writes into one run folder; does nothing in a process that is not the main one.

    Args:
        folder: the run folder.
        enabled: whether this is the main process.
        quiet: leave the terminal alone.
    """

    def __init__(
        self,
        folder: Path,
        *,
        enabled: bool = True,
        quiet: bool = False,
    ) -> None:
        self.console = PlainConsole(quiet=quiet or not enabled)
        self._folder = folder
        self._enabled = enabled
        self._events: Any = None
        self._purge_step: int | None = None
        if enabled:
            folder.mkdir(parents=True, exist_ok=True)
            self._metrics = (folder / METRICS_FILE).open("ab")
            self._log = (folder / LOG_FILE).open("a", encoding="utf-8")

    @property
    def position(self) -> int:
        """Bytes written to metrics.jsonl."""
        return self._metrics.seek(0, 2) if self._enabled else 0

    def rewind(self, position: int, step: int) -> None:
        """Forget what was recorded after a checkpoint.

        Args:
            position: bytes of metrics.jsonl that the checkpoint knew.
            step: its step; TensorBoard drops later events.
        """
        self._purge_step = step + 1
        if self._enabled:
            self._metrics.truncate(min(position, self.position))

    def record(self, values: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl and its numbers to TensorBoard."""
        if not self._enabled:
            return
        line = json.dumps(values, ensure_ascii=False, allow_nan=False)
        self._metrics.write(line.encode("utf-8") + b"\n")
        self._metrics.flush()
        for name, value in _numbers(values):
            self._writer().add_scalar(f"{values['kind']}/{name}", value, values["step"])

    def say(self, text: str) -> None:
        """One line to the terminal and, with the time, to log.txt."""
        if not self._enabled:
            return
        self.console.print(text, markup=False, soft_wrap=True)
        self.log(text)

    def log(self, text: str) -> None:
        """One line, with the time, to log.txt alone."""
        if not self._enabled:
            return
        self._log.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')} {text}\n")
        self._log.flush()

    @contextmanager
    def progress(self, title: str, total: int, done: int = 0) -> Iterator[Callable[..., None]]:
        """A bar on a terminal, nothing otherwise (``say`` gives a line an epoch)."""
        with progress_bar(title, total, done=done, console=self.console) as bar:
            yield bar.advance

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Flush and close every file."""
        if not self._enabled:
            return
        self._metrics.close()
        self._log.close()
        if self._events is not None:
            self._events.close()

    def _writer(self) -> Any:
        if self._events is None:
            from torch.utils.tensorboard import SummaryWriter  # seconds to import

            self._events = SummaryWriter(
                str(self._folder / EVENTS_FOLDER), purge_step=self._purge_step
            )
        return self._events


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Numbers of a line, those of a nested mapping by their own names."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value)
        elif isinstance(value, int | float) and name not in ("step", "epoch", "best"):
            yield name, float(value)
