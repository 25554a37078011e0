"""The folder of one run: its name, its lock, what it says of itself.

``runs/<data>/<model>/<run id>/`` holds ``config.json``, ``versions.json``, ``metrics.jsonl``,
``log.txt``, ``events/``, ``checkpoints/{best,last}/``, ``diagnostics/``, ``report.html`` and,
written last, ``results.json``: with it the run is finished.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import legos
from legos.files import sha256_of_text, write_json
from legos.locks import InUseError, hold

ID_LENGTH = 12
# what changes how a run is carried out, not what comes out of it
_WITHOUT_EFFECT = {
    "exp": (
        "name",
        "mode",
        "device",
        "runs_folder",
        "baselines",
        "compare",
        "report",
        "cache",
        "vectors",
        "export",
    ),
    "exp.train": ("checkpoint_minutes", "checkpoint_steps"),
    "exp.evaluate": ("page_size", "fast_eval"),
    "data": ("folder",),
}
# settings that came later: at these values a run is what it was before, and keeps its id
_ADDED: dict[str, dict[str, Any]] = {
    "model": {"system": "bricks"},
    "exp.train": {"history": "given", "margin": 0.9, "negative_weight": 10.0},
    "exp.evaluate": {"ranking": "shown", "exclude": "history"},
}
_PACKAGES = ("torch", "numpy", "accelerate", "safetensors", "transformers", "peft", "pydantic")


def run_id(resolved: Mapping[str, Any], fingerprint: str, *, num_processes: int = 1) -> str:
    """Twelve hex digits of what decides a run's results.

    Args:
        resolved: the resolved configuration as plain values.
        fingerprint: of the tables.
        num_processes: more of them make a larger batch.
    """
    deciding = json.loads(json.dumps(resolved))
    for place, keys in _WITHOUT_EFFECT.items():
        section = _section(deciding, place)
        for key in keys:
            section.pop(key, None)
    for place, defaults in _ADDED.items():
        section = _section(deciding, place)
        for key, default in defaults.items():
            if section.get(key) == default:
                del section[key]
    content = {"config": deciding, "data": fingerprint, "processes": num_processes}
    return sha256_of_text(json.dumps(content, sort_keys=True))[:ID_LENGTH]


def _section(config: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The section at a dotted path; an empty one where there is none."""
    section: Any = config
    for part in place.split("."):
        section = section.get(part) or {}
    found: dict[str, Any] = section
    return found


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

    @property
    def diagnostics(self) -> Path:
        """Folder of the arrays the report draws."""
        return self.path / "diagnostics"

    def results(self) -> dict[str, Any] | None:
        """The results of a finished run, None of an unfinished one."""
        path = self.path / "results.json"
        if not path.is_file():
            return None
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return results

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Finish the run: nothing is written after this."""
        write_json(self.path / "results.json", dict(results))

    def describe(self, resolved: Mapping[str, Any]) -> None:
        """Write ``config.json`` and ``versions.json``."""
        write_json(self.path / "config.json", dict(resolved))
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
