"""The folder of one run: its name, its lock, what it says of itself.

``runs/<data>/<model>/<run id>/`` holds ``config.json``, ``versions.json``, ``metrics.jsonl``,
``log.txt``, ``events/``, ``checkpoints/{best,last}/``, ``diagnostics/<measurement>/`` and, written
last, ``results.json``: with it the run is finished. ``report.html`` is made from it.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

import legos
from legos import plugins
from legos.config.saved import FILE, FORMAT, RunDescription, enclosing_run, known_description
from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.errors import CheckpointError
from legos.files import InUseError, hold, write_json
from legos.metrics.beyond import ALL
from legos.records import Count, Record, check_record, read_json
from legos.runs.checkpoint import checkpoint_content, checkpoint_in, has_checkpoint
from legos.runs.identity import LOADED, TABLES, TEXT_MODEL, Identity, is_code, run_identity
from legos.settings import OF_TRAINING, deciding

_MEASURE_AGAIN = "delete it and rerun the command to test again; checkpoints are kept"
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
        head = {"format": FORMAT, "run": self.id, "sources": dict(sources)}
        write_json(self.path / FILE, head | config.model_dump(mode="json"))
        write_json(
            self.path / "versions.json",
            {
                "legos": legos.__version__,
                "python": platform.python_version(),
                "platform": f"{platform.system()} {platform.machine()}",
                **_versions(),
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
                f"{self.path}: process {owner} is using this run folder; wait for it, or give "
                "another exp.train.seed or exp.runs_folder"
            )

        with hold(self.path / "lock", busy):
            yield


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in _PACKAGES}


_SHOWN = 3  # differences named by an error


@dataclass(frozen=True)
class LocatedRun:
    """Where a run lies and what decides it.

    Attributes:
        folder: of the run.
        identity: of its weights.
        is_loaded: it is the run that ``exp.load`` names.
    """

    folder: RunFolder
    identity: Identity
    is_loaded: bool = False


def locate_run(config: RunConfig, tables: Tables) -> LocatedRun:
    """The folder of a run, named by what decides its weights.

    A loaded run of these very settings and contents is measured where it lies; another checkpoint
    of it has a folder of its own.

    Raises:
        CheckpointError: the loaded run was trained with other settings or other contents.
        LegosError: something that is read is not there.
    """
    identity = run_identity(config, tables)
    loaded = config.exp.load
    trained = None if loaded is None else known_description(loaded)
    if trained is None and loaded is not None and enclosing_run(loaded) is not None:
        print(
            f"notice: {loaded} was trained by an earlier version, which did not record its inputs; "
            "settings and tables cannot be compared with those of training",
            file=sys.stderr,
        )
    if trained is not None:
        best = trained.folder / "checkpoints" / "best"
        whole = has_checkpoint(best) and checkpoint_content(best) == identity.sources[LOADED]
        if _is_of(config, identity, trained) and whole:
            return LocatedRun(RunFolder(trained.folder), identity, is_loaded=True)
    path = config.exp.runs_folder / config.data.name / config.model.name / identity.id
    return LocatedRun(RunFolder(path), identity)


def run_folder(config: RunConfig, tables: Tables) -> RunFolder:
    """The folder alone; see :func:`locate_run`."""
    return locate_run(config, tables).folder


def checkpoint_of(config: RunConfig, folder: RunFolder) -> Path:
    """The checkpoint that scores: of ``exp.load``, else the best of the run itself.

    Raises:
        CheckpointError: there is none.
    """
    if config.exp.load is not None:
        return checkpoint_in(config.exp.load)
    try:
        return checkpoint_in(folder.path)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error} (the run with these settings); train it, or give --load RUN"
        ) from None


def _is_of(config: RunConfig, identity: Identity, trained: RunDescription) -> bool:
    """Whether a configuration is that of a run; else it is that run on other tables."""
    sources = {key: value for key, value in identity.sources.items() if key != LOADED}
    ours = Identity(deciding(config, OF_TRAINING), sources)
    sources = {k: v for k, v in trained.sources.items() if k not in (LOADED, TEXT_MODEL)}
    theirs = Identity(deciding(trained.config, OF_TRAINING), sources)
    for key, content in theirs.sources.items():
        if key.startswith(plugins.PREFIX) and key in ours.sources:
            plugins.refuse_changed(key, content, ours.sources[key], trained.folder)
    differences = ours.differences(theirs)
    for key in filter(is_code, identity.sources.keys() & trained.sources.keys() & {*differences}):
        print(
            f"notice: {key} differs from the one {trained.folder} was trained with", file=sys.stderr
        )
    others = [key for key in differences if not is_code(key)]
    elsewhere = TABLES in others and config.model.reads_other_tables
    if elsewhere:
        others = [key for key in others if not key.startswith("data.")]
    if others == [TABLES]:
        raise _other_tables(config.data.folder, ours, theirs, trained)
    if others:
        raise _other_run(others, ours, theirs, trained)
    return not elsewhere


def _other_tables(
    folder: Path, ours: Identity, theirs: Identity, trained: RunDescription
) -> CheckpointError:
    """Tables that were made anew since the training, or others."""
    return CheckpointError(
        f"{trained.folder}: the tables in {folder} are not those that it was trained on; if they "
        "were made anew, with new events for example, train again. The tables of the training may "
        f"also lie elsewhere: --data.folder FOLDER\n  {TABLES}: its content hash is "
        f"{ours.sources[TABLES][:12]}, that of the training was {theirs.sources[TABLES][:12]}"
    )


def _other_run(
    keys: list[str], ours: Identity, theirs: Identity, trained: RunDescription
) -> CheckpointError:
    told = []
    keys = sorted(keys, key=lambda key: (key in ours.settings) != (key in theirs.settings))
    for key in keys[:_SHOWN]:
        if key in ours.sources or key in theirs.sources:
            old, new = theirs.sources.get(key, "none"), ours.sources.get(key, "none")
            told.append(
                f"{key}: its content hash is {new[:12]}, that of the training was {old[:12]}; "
                f"--{key} gives its new location"
            )
        else:
            found = ours.settings.get(key, "no such setting")
            told.append(f"{key}: {found!r}, trained with {theirs.settings.get(key, 'none')!r}")
    more = f"\n  and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return CheckpointError(
        f"{trained.folder}: trained with other settings; with --load give only settings that do "
        "not affect training:\n  " + "\n  ".join(told) + more
    )


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
    cpu_seconds: float | None = None
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


class VerdictRecord(Record):
    """:meth:`legos.reports.verdict.Verdict.summary`, as far as it is shown again."""

    outcome: str
    sentence: str
    negatives: str
    advice: list[str]
    lead: str


Baselines = dict[str, dict[str, SplitRecord]]


class WithBaselines(Record):
    """``results.json`` of a comparison, as far as it is read again."""

    baselines: Baselines = Field(default_factory=dict)
    verdict: dict[str, VerdictRecord] = Field(default_factory=dict)


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

    @model_validator(mode="after")
    def _shows_one_of_its_measurements(self) -> Self:
        if self.measurements and self.measurement not in self.measurements:
            raise ValueError(
                f"measurement: {self.measurement!r} is not among measurements "
                f"({', '.join(self.measurements)})"
            )
        return self
