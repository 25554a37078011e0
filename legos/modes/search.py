"""Mode ``search``: trials of ``exp.search.ranges``, chosen on the valid split; the best is tested.

A trial is an ordinary run, trained but not tested. The same command resumes a stopped search. A
comparison searches for the settings of its rows in the same way.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from rich.console import Console

from legos.config.load import load_trial
from legos.config.schema import RunConfig
from legos.config.search import Load
from legos.config.search_schema import SearchConfig, shown_value
from legos.data.tables import Tables
from legos.errors import ConfigError, Diverged, LegosError, OutOfMemory
from legos.evaluation.measure import refuse_unmeasurable
from legos.files import sha256_of_text, write_json
from legos.metrics import parse_metric
from legos.metrics.beyond import ALL
from legos.modes.study import Study
from legos.modes.train_test import run_model
from legos.reports.curves import read_metrics
from legos.reports.examples import show_end
from legos.reports.search import Found, Trial, TrialState, short_names, write_search
from legos.reports.tables import print_table, show_run
from legos.runs.folder import RunFolder, run_folder
from legos.runs.identity import ID_LENGTH, run_identity
from legos.runs.past import PRUNED
from legos.runs.tracking import METRICS_FILE
from legos.training.trainer import Pruned
from legos.workplace.device import naming_memory_settings, refuse_uneven
from legos.workplace.workplace import honesty_notices

STUDY = "study.db"
_SHOWN = 8  # trials on the terminal


def search(
    config: RunConfig,
    words: Sequence[str],
    accelerator: Accelerator,
    console: Console,
    *,
    verbose: bool = False,
) -> dict[str, Any]:
    """Run the trials that are still to run, test the best one, print and write the tables.

    Args:
        config: with section ``exp.search``.
        words: the command line that ``config`` was loaded from; each trial is loaded from it.
        accelerator: device, precision and processes of all trials.
        console: where the tables go.
        verbose: print lines of epochs, all trials, and the tables by items and users.

    Returns:
        What ``results.json`` of the search holds.

    Raises:
        LegosError: no trial was trained to its end.
    """
    tables, asked, load = (
        Tables.load(config.data.folder),
        config.exp.search,
        partial(load_trial, words),
    )
    assert asked is not None  # noqa: S101 - the schema says so
    for line in honesty_notices(tables):
        console.print(line, markup=False, soft_wrap=True)
    refuse_unmeasurable(config, tables)
    searching = Searching(config, load, asked, tables, accelerator, console, verbose)
    folder = searching.folder
    with folder.lock() if accelerator.is_main_process else nullcontext():
        found, chosen = searching.run()
        best = load(chosen)
        exp = best.exp.model_copy(update={"mode": "train_test"})
        best = best.model_copy(update={"exp": exp})
        results = run_model(best, accelerator, terse=not verbose)
        if not accelerator.is_main_process:
            return results
        tested = {split: each["rows"][ALL] for split, each in results["splits"].items()}
        found = replace(found, test=tested)
        summary = {
            "data": config.data.name,
            "fingerprint": tables.fingerprint,
            "ranges": asked.model_dump(mode="json")["ranges"],
            **found.summary(),
            "run": found.best.run if found.best else "",
            "splits": results["splits"],
            "verdict": results.get("verdict", {}),
        }
        folder.write_results(summary)
        run = Path(summary["run"])
        if config.exp.report:
            write_search(folder.path, found, asked, run)
        _show(console, found, results, verbose=verbose)
        show_end(console, folder.path, run, summary["verdict"].values())
    return summary


@dataclass(frozen=True)
class Searching:
    """The trials of a search. The study is the main process's, which holds the folder's lock.

    Attributes:
        config: of the run that is searched.
        load: makes the configuration of a trial from its values by dotted key.
        asked: ranges, and how long.
        tables: the data set.
        accelerator: device, precision and processes of all trials.
        console: where lines go.
        verbose: print lines of epochs, too.
    """

    config: RunConfig
    load: Load
    asked: SearchConfig
    tables: Tables
    accelerator: Accelerator
    console: Console
    verbose: bool

    @cached_property
    def folder(self) -> RunFolder:
        """Where it lies: named by its ranges and what else decides its trials, not their number.

        Raises:
            LegosError: something that is read is not there.
        """
        first = self.load({key: each.ends[0] for key, each in self.asked.ranges.items()})
        told = {
            "run": vars(run_identity(first, self.tables)),
            "search": self.asked.model_dump(mode="json", exclude={"trials"}),
        }
        name = f"search-{sha256_of_text(json.dumps(told, sort_keys=True))[:ID_LENGTH]}"
        return RunFolder(self.config.exp.runs_folder / self.config.data.name / name)

    def run(self) -> tuple[Found, dict[str, Any]]:
        """Run trials until there are as many as asked for; all of them, and the best one's values.

        Raises:
            LegosError: no trial was trained to its end.
        """
        found = self._trials()
        if found.best is None:
            told = "\n  ".join(dict.fromkeys([str(found), *found.errors]))
            raise LegosError(f"{self.folder.path}: nothing to test:\n  {told}")
        return found, dict(found.best.values)

    def _trials(self) -> Found:
        train, trials, study = self.config.exp.train, [], None
        maximize = parse_metric(train.metric).maximize
        if self.accelerator.is_main_process:
            path = self.folder.path / STUDY
            study = Study(path, self.asked, seed=train.seed, maximize=maximize)
            trials = study.trials()
        found = Found(train.metric, maximize, [*broadcast_object_list([trials])[0]])
        if found.trials:
            done = "finished, " if len(found.trials) >= self.asked.trials else "continues after "
            self.console.print(f"{self.folder.path}: {done}{found}", soft_wrap=True)
        while len(found.trials) < self.asked.trials:
            (values,) = broadcast_object_list([study.draw() if study else None])
            trial = self._trial(len(found.trials) + 1, values, study, found)
            found = replace(found, trials=[*found.trials, trial])
            if study is not None:
                study.add(trial, found.validation(trial))
            self._tell(trial, found)
            if trial.state == "failed" and self.accelerator.num_processes > 1:
                raise LegosError(
                    f"trial {trial.number} failed: {trial.error}\n  several processes cannot "
                    "continue; rerun the command to continue with the next trial"
                )
        return found

    def _trial(
        self, number: int, values: dict[str, Any], study: Study | None, found: Found
    ) -> Trial:
        """Train one; what a user did wrong ends the search."""
        state: TrialState = "trained"
        folder, error = None, ""
        try:
            config = self.load(values)
            refuse_uneven(config, self.accelerator.num_processes)
            folder = run_folder(config, self.tables).path
            ends = None
            if study is not None:
                known, path = study, folder

                def ends() -> bool:
                    return known.prunes(values, self._epochs(path))

            with naming_memory_settings(config.exp, (config.model,)):
                run_model(
                    config, self.accelerator, baselines=False, terse=not self.verbose, ends=ends
                )
        except Pruned:
            state = "pruned"
        except (Diverged, OutOfMemory) as refused:
            state, error = "failed", str(refused)
        except ConfigError as refused:  # one of the first trial is a mistake, not bad luck
            if not any(trial.state != "failed" for trial in found.trials):
                raise
            state, error = "failed", str(refused)
        if state != "trained":
            self.accelerator.free_memory()
            gc.collect()
            torch.cuda.empty_cache()
        if folder is None:
            return Trial(number, state, values, error=error)
        trial = Trial(number, state, values, self._epochs(folder), str(folder), error)
        if state == "trained" and not trial.epochs:
            raise ConfigError(f"trial {number} was never validated; set exp.train.epochs above 0")
        if state == "pruned" and self.accelerator.is_main_process:
            write_json(folder / PRUNED, {"search": str(self.folder.path), "trial": number})
        return trial

    def _epochs(self, folder: Path) -> list[float]:
        """The watched metric after each epoch of a run that its best one is chosen from."""
        metric = self.config.exp.train.metric
        lines = [each for each in read_metrics(folder / METRICS_FILE) if "best" in each]
        return [each["metrics"][metric] for each in lines]

    def _tell(self, trial: Trial, found: Found) -> None:
        names = short_names(list(trial.values))
        drawn = (f"{names[key]} {shown_value(each)}" for key, each in trial.values.items())
        values = " · ".join(drawn)
        value, best = found.validation(trial), found.best
        parts = [f"trial {trial.number} of {self.asked.trials}: {values}"]
        if value is not None:
            parts.append(f"valid {found.metric} {value:.4f}")
        if trial.state != "trained":
            parts.append(f"{trial.state} after {len(trial.epochs)} epochs")
        if trial.error:
            parts.append(trial.error)
        if best is not None:
            parts.append(f"best {found.validation(best):.4f} (trial {best.number})")
        self.console.print("  ".join(parts), soft_wrap=True)


def _show(console: Console, found: Found, results: dict[str, Any], *, verbose: bool) -> None:
    """Print the best trials, what failed, and the test of the best one."""
    cells = found.cells()
    shown = cells if verbose else cells[: 1 + _SHOWN]
    print_table(console, f"{found}, the best first", shown)
    more = len(cells) - len(shown)
    if more:
        console.print(f"... and {more} more in the report")
    for text in found.errors:
        console.print(text, soft_wrap=True)
    console.print()
    show_run(console, results, verbose=verbose)
