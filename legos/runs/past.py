"""Past runs as their folders tell of them; no torch, so that a list of hundreds is quick."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from legos.config.saved import FILE
from legos.config.yaml_files import shown
from legos.errors import CheckpointError, DataError
from legos.files import InUseError, hold, is_free, unique
from legos.records import read_json
from legos.runs.passes import passes

State = Literal["finished", "trained", "pruned", "interrupted", "running", "damaged"]
_LOCK, _RESULTS = "lock", "results.json"
PRUNED = "pruned.json"
"""In the folder of a run that a search ended before its time: which search, and which trial."""


@dataclass(frozen=True)
class PastRun:
    """A run folder.

    Attributes:
        folder: ``runs/<data>/<model>/<run id>``.
    """

    folder: Path

    @property
    def id(self) -> str:
        """The run id."""
        return self.folder.name

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """``config.json``; empty where it is damaged."""
        return _read(self.folder / FILE) or {}

    @cached_property
    def results(self) -> Mapping[str, Any]:
        """``results.json``; empty where there is none, or it is damaged."""
        return _read(self.folder / _RESULTS) or {}

    @property
    def data(self) -> str:
        """Name of the data set."""
        return self._named("data")

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._named("model")

    @property
    def seed(self) -> int | None:
        """Of the training."""
        found = _at(self.config, "exp", "train", "seed")
        return found if isinstance(found, int) else None

    @cached_property
    def process(self) -> str | None:
        """The process that works in the folder; None: none does."""
        lock = self.folder / _LOCK
        if not lock.is_file() or is_free(lock):
            return None
        return lock.read_text(encoding="ascii", errors="replace").strip() or "(unknown)"

    @property
    def state(self) -> State:
        """Finished: trained and tested; trained: not tested; interrupted: not trained to the end.

        The same command goes on with a run that is trained or interrupted. Pruned: a search ended
        its training, because it promised too little.
        """
        if self.process is not None:
            return "running"
        if (self.folder / _RESULTS).is_file():
            if not self.results:
                return "damaged"
            return "finished" if self.metrics else "trained"
        if (self.folder / PRUNED).is_file():
            return "pruned"
        return "interrupted" if self.config else "damaged"

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """By test split the metrics over all rows."""
        splits = self.results.get("splits")
        found = splits if isinstance(splits, dict) else {}
        measured = {split: _at(each, "rows", "all") for split, each in found.items()}
        return {split: each for split, each in measured.items() if isinstance(each, dict)}

    @property
    def validation(self) -> dict[str, float]:
        """The watched metric of the best epoch; empty before a training is over."""
        metric, best = (_at(self.results, "training", key) for key in ("metric", "best"))
        return {metric: best} if isinstance(metric, str) and isinstance(best, float) else {}

    @property
    def passes(self) -> float | None:
        """How often its training saw its rows; None if that is unknown."""
        training = self.results.get("training")
        return passes(training) if isinstance(training, dict) else None

    @cached_property
    def files(self) -> dict[Path, os.stat_result]:
        """Every file of the run."""
        return {
            path: path.stat()
            for path in self.folder.rglob("*")
            if path.is_file() and not path.is_symlink()
        }

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(each.st_size for each in self.files.values())

    @property
    def changed(self) -> float:
        """When the run was written last, in seconds since 1970; its lock does not count."""
        times = [each.st_mtime for path, each in self.files.items() if path.name != _LOCK]
        return max(times, default=0.0)

    @property
    def last_checkpoint(self) -> Path:
        """What an interrupted training goes on from."""
        return self.folder / "checkpoints" / "last"

    def _named(self, section: str) -> str:
        name = _at(self.config, section, "name")
        return name if isinstance(name, str) else "?"

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "run": self.id,
            "folder": str(self.folder),
            "data": self.data,
            "model": self.model,
            "seed": self.seed,
            "state": self.state,
            "process": self.process,
            "changed": self.changed,
            "bytes": self.size,
            "metrics": self.metrics,
            "validation": self.validation,
            "passes": self.passes,
        }

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep every process from working in the folder while the block runs.

        Raises:
            InUseError: one does.
        """

        def busy(owner: str) -> InUseError:
            return InUseError(f"{shown(self.folder)}: process {owner} is using it")

        with hold(self.folder / _LOCK, busy):
            yield

    def remove(self) -> None:
        """Remove the folder, and those around it that are empty then.

        Raises:
            InUseError: a process works in it.
        """
        with self.claimed():
            remove_whole(self.folder)
        for around in list(self.folder.parents)[:2]:  # of the model, of the data
            if any(around.iterdir()):
                break
            around.rmdir()


def remove_whole(folder: Path) -> None:
    """Remove a folder so that nobody ever sees a part of it."""
    aside = folder.with_name(f".{folder.name}.{unique()}.part")
    os.rename(folder, aside)
    shutil.rmtree(aside)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = read_json(path, error=CheckpointError)
    except (CheckpointError, DataError, OSError):
        return None
    return found if isinstance(found, dict) else None


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
