"""What a training says while it runs: metrics.jsonl, TensorBoard events, log.txt, the terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from legos.progress import PlainConsole, progress_bar
from legos.records import Count, Record, json_lines


class Line(Record):
    """A line of ``metrics.jsonl``."""

    kind: str
    epoch: Count
    cpu_seconds: float = 0.0
    """CPU time of the main process since the line before, or since the run was opened."""


class TrainLine(Record):
    """A line of ``metrics.jsonl`` about some training steps."""

    step: Count
    loss: float


class ValidLine(Record):
    """A line of ``metrics.jsonl`` about an epoch."""

    step: Count
    train_loss: float | None = None
    metrics: dict[str, float]


LINES: dict[str, type[Record]] = {"train": TrainLine, "valid": ValidLine}


METRICS_FILE, LOG_FILE, EVENTS_FOLDER = "metrics.jsonl", "log.txt", "events"
OBSERVED = "observed"
"""Key of a line: numbers that training measured beside its loss, named ``figure/line``."""


class Tracker:
    """Writes into one run folder; does nothing in a process that is not the main one.

    Args:
        folder: the run folder.
        enabled: whether this is the main process.
        quiet: leave the terminal alone.
        terse: lines go to log.txt alone; bars are drawn.
        ends: asked at the beginning of each segment and where a run resumes, when all validations
            so far are in metrics.jsonl: whether the training ends here; None: it does not.
    """

    def __init__(
        self,
        folder: Path,
        *,
        enabled: bool = True,
        quiet: bool = False,
        terse: bool = False,
        ends: Callable[[], bool] | None = None,
    ) -> None:
        self.ends = ends or (lambda: False)
        self._terse = terse
        self.console = PlainConsole(quiet=quiet or not enabled)
        self._folder = folder
        self._enabled = enabled
        self._events: Any = None
        self._purge_step: int | None = None
        self._clock = time.process_time()
        if enabled:
            folder.mkdir(parents=True, exist_ok=True)
            self._metrics = (folder / METRICS_FILE).open("ab")
            self._log = (folder / LOG_FILE).open("a", encoding="utf-8")

    @property
    def cpu_seconds(self) -> float:
        """CPU time of the main process: of all lines in metrics.jsonl, and since the last one."""
        if not self._enabled:
            return 0.0
        lines = json_lines((self._folder / METRICS_FILE).read_bytes(), METRICS_FILE)
        spent: float = sum(value.get("cpu_seconds", 0.0) for _, value in lines)
        return round(spent + time.process_time() - self._clock, 3)

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
        """Append one line to metrics.jsonl and its numbers to TensorBoard.

        A line has the CPU seconds since the one before, so that their sum is that of a training
        over all its interruptions.
        """
        if not self._enabled:
            return
        before, self._clock = self._clock, time.process_time()
        timed = {**values, "cpu_seconds": round(self._clock - before, 3)}
        line = json.dumps(timed, ensure_ascii=False, allow_nan=False)
        self._metrics.write(line.encode("utf-8") + b"\n")
        self._metrics.flush()
        for name, value in _numbers(values):
            self._writer().add_scalar(f"{values['kind']}/{name}", value, values["step"])

    def say(self, text: str) -> None:
        """One line to the terminal and, with the time, to log.txt."""
        if not self._enabled:
            return
        if not self._terse:
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
        """A bar on a terminal, elsewhere a line a minute (``say`` gives one an epoch)."""
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
