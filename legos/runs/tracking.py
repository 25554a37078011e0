"""What a run tells while it goes: metrics.jsonl, log.txt, TensorBoard events, the terminal.

``metrics.jsonl`` has one object a line: ``{"kind": "train", "epoch", "step", "loss",
"learning_rate", "gradient_norm", "seconds"}`` and ``{"kind": "valid", "epoch", "step",
"metrics": {...}, "best": bool, "seconds"}``. A resume cuts the file back to the checkpoint it
goes on from, so no line stands twice. Only the main process writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from legos.console import PlainConsole
from legos.progress import progress_bar

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
