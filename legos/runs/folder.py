"""The folder of one run: its name, its lock, what it says of itself.

``runs/<data>/<model>/<run id>/`` holds ``config.json``, ``versions.json``, ``metrics.jsonl``,
``log.txt``, ``events/``, ``checkpoints/{best,last}/``, ``diagnostics/<measurement>/``,
``report.html`` and, written last, ``results.json``: with it the run is finished.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import legos
from legos.config.described import write_description
from legos.config.schema import RunConfig
from legos.files import write_json
from legos.locks import InUseError, hold
from legos.records import check_record, read_json

_MEASURE_AGAIN = "delete it, and the same command measures again; checkpoints stay"
_PACKAGES = ("torch", "numpy", "accelerate", "safetensors", "transformers", "peft", "pydantic")


@dataclass(frozen=True)
class RunFolder:
    """Where the parts of a run lie.

    Attributes:
        path: ``runs/<data>/<model>/<run id>``.
    """

    path: Path

    @property
    def id(self) -> str:
        """The run id."""
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        """Folder of ``best`` and ``last``."""
        return self.path / "checkpoints"

    def diagnostics(self, measurement: str, split: str) -> Path:
        """Folder of the arrays of a measurement: for the report and for tests of significance."""
        return self.path / "diagnostics" / measurement / split

    def results(self, *, of_comparison: bool = False) -> dict[str, Any] | None:
        """The results of a finished run, None of an unfinished one.

        Args:
            of_comparison: the folder is that of a comparison.

        Raises:
            DataError: ``results.json`` is damaged.
        """
        from legos.runs.records import ResultsRecord, WithBaselines  # asks for metrics and torch

        path = self.path / "results.json"
        if not path.is_file():
            return None
        results: dict[str, Any] = read_json(path, hint=_MEASURE_AGAIN)
        schema = WithBaselines if of_comparison else ResultsRecord
        check_record(results, schema, str(path), hint=_MEASURE_AGAIN)
        return results

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Finish the run: nothing is written after this."""
        write_json(self.path / "results.json", dict(results))

    def describe(self, config: RunConfig, sources: Mapping[str, str]) -> None:
        """Write ``config.json`` and ``versions.json``.

        Args:
            config: the run's.
            sources: by dotted key the hash of each content that it reads.
        """
        write_description(self.path, self.id, config, sources)
        versions = {name: version(name) for name in _PACKAGES}
        write_json(
            self.path / "versions.json",
            {
                "legos": legos.__version__,
                "python": platform.python_version(),
                "platform": f"{platform.system()} {platform.machine()}",
                **versions,
            },
        )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from training here; a killed owner's lock is free at once.

        Raises:
            InUseError: another process holds the lock.
        """

        def busy(owner: str) -> InUseError:
            return InUseError(
                f"{self.path}: process {owner} is working in this run folder; wait for it, or give "
                "another exp.train.seed or exp.runs_folder"
            )

        with hold(self.path / "lock", busy):
            yield
