"""Modes ``train_test``, ``train`` and ``test``: one model, as far as that is not done yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from rich.console import Console

from legos.config.model_schema import registered_system
from legos.config.saved import read_description
from legos.config.schema import RunConfig
from legos.data.interactions import Interactions
from legos.data.tables import Tables
from legos.evaluation.baselines import measure_baselines, missing_baselines, share_texts
from legos.evaluation.groups import write_groups
from legos.evaluation.measure import SplitResult, refuse_unmeasurable
from legos.files import write_array
from legos.modes.examples import examples_of
from legos.reports.examples import show_end, write_examples
from legos.reports.page import REPORT, write_report
from legos.reports.tables import show_run
from legos.reports.verdict import judge_run
from legos.runs.folder import (
    LocatedRun,
    Measurement,
    RunFolder,
    checkpoint_of,
    locate_run,
    run_folder,
)
from legos.runs.identity import measurement_identity
from legos.runs.past import PRUNED
from legos.runs.tracking import Tracker
from legos.systems.protocol import System
from legos.training.recipe import BEST
from legos.workplace.device import (
    make_accelerator,
    peak_memory_mb,
    refuse_uneven,
    reset_peak_memory,
)
from legos.workplace.workplace import Workplace, honesty_notices

SAMPLE = 200_000  # rows a report's plots are drawn from


def run_and_show(
    config: RunConfig, accelerator: Accelerator, console: Console, *, verbose: bool
) -> dict[str, Any]:
    """:func:`run_model`, and what came out on the terminal.

    Args:
        config: of the run.
        accelerator: device, precision and processes.
        console: where tables go.
        verbose: print those by items and users, too.
    """
    results = run_model(config, accelerator)
    show_run(console, results, verbose=verbose)
    if results.get("splits"):
        folder = run_folder(config, Tables.load(config.data.folder)).path
        show_end(console, folder, folder, results["verdict"].values())
    return results


def run_model(
    config: RunConfig,
    accelerator: Accelerator,
    *,
    baselines: bool = True,
    terse: bool = False,
    ends: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Train and test one model as far as that is not done yet; returns its results.

    Args:
        config: of the run.
        accelerator: device, precision and processes.
        baselines: measure those of ``exp.baselines``, too.
        terse: lines about epochs go to its log alone.
        ends: asked between epochs whether its training ends here, see :class:`Tracker`.

    Raises:
        Pruned: ``ends`` said so.
    """
    tables, mode = Tables.load(config.data.folder), config.exp.mode
    run = locate_run(config, tables)
    folder, is_main = run.folder, accelerator.is_main_process
    if mode == "test":
        checkpoint_of(config, folder)  # before anything is written
    with folder.lock() if is_main else nullcontext():
        results = folder.results() or {}
        identity = measurement_identity(config)
        measured = Measurement(results, identity)
        sources = {**run.identity.sources, **identity.sources}
        note = partial(folder.describe, _as_trained(config, run), sources)
        asked = () if mode == "train" else config.data.splits.test
        kept = partial(folder.diagnostics, measured.id)
        due = _what_is_due(config, tables, results, measured, kept, baselines=baselines)
        with Tracker(folder.path, enabled=is_main, terse=terse, ends=ends) as tracker:
            if any(due):
                refuse_unmeasurable(config, tables)
                refuse_uneven(config, accelerator.num_processes)
                if is_main:
                    note()
                    (folder.path / PRUNED).unlink(missing_ok=True)
                accelerator.wait_for_everyone()
                workplace = Workplace.open(config, accelerator, tables, say=tracker.say)
                tell = tracker.say if baselines else tracker.log  # a comparison says it once
                for line in honesty_notices(tables):
                    tell(line)
                results = _do(due, workplace, folder, tracker, results, measured)
            else:
                tracker.say(f"{folder.path} is finished; its results:")
            if asked and is_main:
                labels = [each.label for each in config.exp.baselines]
                results = measured.shown_in(results, asked, labels)
                results["verdict"] = judge_run(config, tables, results, kept)
                if results != folder.results() or unreported(config, folder):
                    note()
                    finish(config, folder, results, tracker)
    shared: dict[str, Any] = broadcast_object_list([results])[0]
    return shared


class _Due(NamedTuple):
    """What of a run is not done yet: its training, test splits, whether baselines are missing."""

    training: bool
    splits: list[str]
    baselines: bool


def _what_is_due(
    config: RunConfig,
    tables: Tables,
    results: Mapping[str, Any],
    measured: Measurement,
    kept: Callable[[str], Path],
    *,
    baselines: bool,
) -> _Due:
    mode, asked = config.exp.mode, config.data.splits.test
    if mode == "train":
        asked, baselines = (), False
    return _Due(
        training=mode != "test" and "training" not in results,
        splits=[split for split in asked if split not in measured.splits],
        baselines=baselines and bool(missing_baselines(config, tables, measured.baselines, kept)),
    )


def _do(
    due: _Due,
    workplace: Workplace,
    folder: RunFolder,
    tracker: Tracker,
    results: dict[str, Any],
    measured: Measurement,
) -> dict[str, Any]:
    """Do what is due; measurements go into ``measured``. Returns what is known of the run."""
    if due.training:
        results = train_model(workplace, folder, tracker)
    if due.splits:
        results = test_model(workplace, folder, results, measured, due.splits)
    if due.baselines:
        config, accelerator, known = workplace.config, workplace.accelerator, measured.baselines
        kept = partial(folder.diagnostics, measured.id)
        share_texts(config, workplace.tables, accelerator, known, kept)
        if accelerator.is_main_process:
            measure_baselines(workplace, tracker, known, kept)
    return results


def _as_trained(config: RunConfig, run: LocatedRun) -> RunConfig:
    """What ``config.json`` says: a run that is measured where it lies was not loaded."""
    if not run.is_loaded:
        return config
    exp = config.exp.model_copy(update={"load": None, "mode": "train_test"})
    return config.model_copy(update={"exp": exp})


def train_model(workplace: Workplace, folder: RunFolder, tracker: Tracker) -> dict[str, Any]:
    """Train (or go on training) and note what came out in ``results.json``."""
    accelerator = workplace.accelerator
    reset_peak_memory(accelerator.device)
    system = open_system(workplace, tracker.say)
    training = system.train(folder, tracker)
    results = describe(workplace, folder, system)  # a method that is fitted has its numbers now
    results["training"] = {
        **training,
        "cpu_seconds": tracker.cpu_seconds,
        "peak_memory_mb": peak_memory_mb(accelerator.device),
    }
    if accelerator.is_main_process:
        folder.write_results(results)
    return results


def test_model(
    workplace: Workplace,
    folder: RunFolder,
    results: dict[str, Any],
    measured: Measurement,
    splits: list[str],
) -> dict[str, Any]:
    """Score splits with the best checkpoint into ``measured``; returns what is known of the run."""
    accelerator = workplace.accelerator
    reset_peak_memory(accelerator.device)
    system = open_system(workplace)
    trained_in = system.load(checkpoint_of(workplace.config, folder))
    results = {**describe(workplace, folder, system), "trained_in": trained_in, **results}
    for split in splits:
        interactions = workplace.split(split)
        result = system.evaluate(interactions, thorough=True)
        if result is not None:
            measured.splits[split] = result.summary()
            results["test_peak_memory_mb"] = peak_memory_mb(accelerator.device)
            keep_diagnostics(folder.diagnostics(measured.id, split), result, interactions)
    # a system of a user's own may recommend nothing
    if workplace.config.exp.report and hasattr(system, "recommender"):
        first = workplace.split(splits[0])
        seed = workplace.config.exp.train.seed
        shown = examples_of(system, workplace.tables, first, seed=seed)
        if accelerator.is_main_process:
            write_examples(folder.path, shown)
    return results


def open_system(workplace: Workplace, say: Callable[[str], None] = lambda text: None) -> System:
    """The system that the model YAML names, with its first weights."""
    system: System = resolve_name(registered_system(workplace.config.model.system).runs)(
        workplace, say
    )
    return system


def open_trained(folder: Path, *, device: str = "auto") -> System:
    """The system of a finished run with its best weights.

    Args:
        folder: ``runs/<data>/<model>/<run id>``; its tables are where the run found them.
        device: auto, cpu, cuda or cuda:1.

    Raises:
        CheckpointError: there is no trained model in it.
        DataError: its tables are no longer there.
    """
    config = read_description(folder).config
    accelerator = make_accelerator(
        device=device, precision=config.exp.precision, deterministic=config.exp.deterministic
    )
    tables = Tables.load(config.data.folder)
    system = open_system(Workplace.open(config, accelerator, tables))
    system.load(folder / "checkpoints" / BEST)
    return system


def describe(workplace: Workplace, folder: RunFolder, system: System) -> dict[str, Any]:
    """What ``results.json`` says of the run itself."""
    config = workplace.config
    return {
        "run": folder.id,
        "data": config.data.name,
        "fingerprint": workplace.tables.fingerprint,
        "honesty": workplace.tables.manifest.get("honesty"),
        "model": config.model.name,
        "embed": config.embed.name,
        "seed": config.exp.train.seed,
        "parameters": system.parameters,
        "processes": workplace.accelerator.num_processes,
        "splits": {},
    }


def unreported(config: RunConfig, folder: RunFolder) -> bool:
    """Whether the report that is asked for is not there, as after a kill between both files."""
    return config.exp.report and not (folder.path / REPORT).is_file()


def finish(
    config: RunConfig, folder: RunFolder, results: Mapping[str, Any], tracker: Tracker
) -> None:
    """Write ``results.json`` and the report made from it; no report is of other results."""
    (folder.path / REPORT).unlink(missing_ok=True)
    folder.write_results(results)
    if config.exp.report:
        write_report(folder.path)
    tracker.say(f"results in {folder.path}")


def keep_diagnostics(folder: Path, result: SplitResult, interactions: Interactions) -> None:
    """Arrays behind the metrics: for the report's plots and for tests of significance.

    ``scores.npy`` and ``labels.npy`` are a sample of at most ``SAMPLE`` rows, where candidates
    were scored; ``groups-<metric>.npy`` has the metric of every group.
    """
    if result.scores is not None:
        labels = interactions.labels.cpu().numpy()
        step = max(1, -(-labels.size // SAMPLE))
        write_array(folder / "scores.npy", result.scores[::step])
        write_array(folder / "labels.npy", labels[::step])
    write_groups(folder, result.groups)
