"""Several models, several seeds, the baselines: one table a split.

Every (model, seed) is an ordinary run: a finished one is reused, an interrupted one continues. A
row with ranges is searched first, by as many trials as every other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from rich.console import Console

from legos.config.comparison import comparison_curve
from legos.config.schema import ComparedRow, RunConfig
from legos.data.tables import Tables
from legos.evaluation.baselines import measure_baselines, share_texts
from legos.evaluation.groups import read_groups
from legos.evaluation.measure import refuse_unmeasurable
from legos.files import sha256_of_text, write_text
from legos.modes.row_search import SearchedRow, search_cells, search_row
from legos.modes.train_test import run_model
from legos.reports.comparison_page import ComparedSplit, write_comparison
from legos.reports.costs import costs_figure, write_costs
from legos.reports.curves import observed_cells
from legos.reports.examples import show_end
from legos.reports.figures import write_curves
from legos.reports.next_step import loss
from legos.reports.rows import ResultRow, baseline_rows, in_order, subset_rows
from legos.reports.significance import legend, tested_rows
from legos.reports.tables import (
    Cells,
    csv_table,
    csv_text,
    markdown_table,
    print_table,
    show_short_trainings,
    show_split,
    split_tables,
    twin_of,
    verdict_lines,
)
from legos.reports.verdict import Contender, Verdict, best_row, judge
from legos.runs.folder import RunFolder, run_folder
from legos.runs.identity import ID_LENGTH, measurement_identity, run_identity, tables_content
from legos.runs.passes import trainings_in
from legos.runs.tracking import Tracker
from legos.settings import OF_WEIGHTS, deciding
from legos.workplace.device import refuse_uneven
from legos.workplace.workplace import Workplace, honesty_notices

_SEARCHED = "settings found on the valid split"
_OBSERVED = "observed in training, last epoch"


def compare(
    config: RunConfig, accelerator: Accelerator, console: Console, *, verbose: bool = False
) -> dict[str, Any]:
    """Run every model with every seed, print the tables, write them as JSON, CSV and Markdown.

    Args:
        config: with section ``exp.compare``.
        accelerator: device, precision and processes of all of them.
        console: where the tables go.
        verbose: print the tables by items and users, too.

    Returns:
        What ``results.json`` of the comparison holds.
    """
    tables = Tables.load(config.data.folder)
    for line in honesty_notices(tables):
        console.print(line, soft_wrap=True)
    measured, searches = _run_rows(config, tables, accelerator, console, verbose=verbose)
    folder, folders = _folder(config, tables, measured), measured.folders
    summary: dict[str, Any] = {
        "data": config.data.name,
        "fingerprint": tables.fingerprint,
        "runs": {label: [str(run.path) for run in each] for label, each in folders.items()},
        "searches": {label: each.summary() for label, each in searches.items()},
    }
    results = folder.results(of_comparison=True) or {}
    baselines: dict[str, Any] = results.get("baselines", {})
    kept = partial(folder.diagnostics, measurement_identity(config).id)
    share_texts(config, tables, accelerator, baselines, kept)
    if not accelerator.is_main_process:
        return summary
    with folder.lock():
        tracker = Tracker(folder.path)
        workplace = Workplace.open(config, accelerator, tables, shapes_only=True)
        measure_baselines(workplace, tracker, baselines, kept)
        tracker.close()
        found = {
            split: measured.on(split, tables, _asked(config, baselines[split]), kept(split))
            for split in config.data.splits.test
        }
        summary |= {"baselines": baselines, **_summary(found)}
        paths = {label: [run.path for run in each] for label, each in folders.items()}
        first_runs = {label: each[0] for label, each in paths.items()}
        more = {_SEARCHED: search_cells(searches), _OBSERVED: observed_cells(paths)}
        summary |= _report(config, folder.path, found, paths, more, console, verbose=verbose)
        folder.write_results(summary)
        best, verdicts = measured.best_row(found)
        show_end(console, folder.path, first_runs[best], verdicts)
    return summary


def _run_rows(
    config: RunConfig,
    tables: Tables,
    accelerator: Accelerator,
    console: Console,
    *,
    verbose: bool,
) -> tuple[Compared, dict[str, SearchedRow]]:
    """Search for and run every row; the runs, and by row what was searched."""
    rows = config.rows()
    for row in rows:
        for run in row.runs:  # before the first of them starts
            refuse_unmeasurable(run, tables)
            refuse_uneven(run, accelerator.num_processes)
            run_identity(run, tables)  # needs every file that a row reads
            measurement_identity(run)
    searches: dict[str, SearchedRow] = {}
    measured = Compared([], {}, {})
    budget = config.exp.compare.search if config.exp.compare else None
    for row in rows:
        if row.ranges and budget and budget.trials:
            row, searches[row.label] = search_row(
                row, budget, tables, accelerator, console, verbose=verbose
            )
        measured.rows.append(row)
        measured.runs[row.label] = [
            run_model(run, accelerator, baselines=False) for run in row.runs
        ]
        measured.folders[row.label] = [run_folder(run, tables) for run in row.runs]
    return measured, searches


def _summary(found: Mapping[str, OnSplit]) -> dict[str, Any]:
    """What ``results.json`` says of the splits."""
    return {
        "verdict": {split: each.verdict for split, each in found.items() if each.verdict},
        "verdicts": {
            split: {label: verdict.summary() for label, verdict in each.verdicts.items()}
            for split, each in found.items()
        },
        "rows": {split: [vars(row) for row in each.rows] for split, each in found.items()},
        "subsets": {split: [vars(row) for row in each.subsets] for split, each in found.items()},
    }


def _report(
    config: RunConfig,
    folder: Path,
    found: Mapping[str, OnSplit],
    runs: Mapping[str, Sequence[Path]],
    more: Mapping[str, Cells],
    console: Console,
    *,
    verbose: bool,
) -> dict[str, Any]:
    """Write and print tables, page and curves; what ``results.json`` says of the curve, if any."""
    tables_of, first_runs = (
        _tables_of(config, found),
        {name: each[0] for name, each in runs.items()},
    )
    _write(folder, found, tables_of, console, more, verbose=verbose)
    if config.exp.report:
        told = {name: cells for name, cells in more.items() if cells}
        shown = [
            ComparedSplit(
                split,
                list(first_runs),
                tables_of[split] | told,
                each.verdict,
                costs_figure(each.rows),
            )
            for split, each in found.items()
        ]
        write_comparison(folder, config.data.name, shown, first_runs)
    show_short_trainings(console, trainings_in(first_runs))
    for split, each in found.items():
        drawn = write_costs(folder, split, each.rows)
        if drawn:
            console.print(f"quality over CPU seconds in {drawn[0]}", markup=False)
    curve = comparison_curve(config)
    if curve is None:
        return {}
    for split, each in found.items():
        drawn = write_curves(folder, curve, split, each.rows)
        console.print(f"metrics over {curve.key} in {drawn[0]}", markup=False)
    return {"curve": {"key": curve.key, "values": curve.values}}


def _folder(config: RunConfig, tables: Tables, measured: Compared) -> RunFolder:
    """Where the tables lie, named by the runs, how they are measured, and the baselines' data."""
    identity = {
        "rows": [
            [
                measured.references.get(label),
                *([run["run"], run["measurement"]] for run in each),
            ]
            for label, each in measured.runs.items()
        ],
        "data": [deciding(config.data, OF_WEIGHTS), tables_content(tables)],
        "measurement": vars(measurement_identity(config)),
        "splits": config.data.splits.test,
    }
    name = f"compare-{sha256_of_text(json.dumps(identity, sort_keys=True))[:ID_LENGTH]}"
    return RunFolder(config.exp.runs_folder / config.data.name / name)


def _asked(config: RunConfig, baselines: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``exp.baselines`` that are measured, in that order."""
    labels = (each.label for each in config.exp.baselines)
    return {label: baselines[label] for label in labels if label in baselines}


@dataclass(frozen=True)
class OnSplit:
    """What a comparison says of one split.

    Attributes:
        rows: baselines, models beside what they are measured against, and the bound.
        subsets: the same by items and users.
        verdicts: by row.
    """

    rows: list[ResultRow]
    subsets: list[ResultRow]
    verdicts: dict[str, Verdict]

    @property
    def verdict(self) -> dict[str, Any] | None:
        """That on the best row, as ``results.json`` keeps it; None without any."""
        best = best_row(self.verdicts)
        return best.summary() if best else None


@dataclass(frozen=True)
class Compared:
    """The runs of a comparison.

    Attributes:
        rows: as the configuration has them.
        runs: by row the results of each seed.
        folders: by row the folder of each seed.
    """

    rows: list[ComparedRow]
    runs: dict[str, list[dict[str, Any]]]
    folders: dict[str, list[RunFolder]]

    @property
    def references(self) -> dict[str, str]:
        """By row the row that it is measured against."""
        return {row.label: row.reference for row in self.rows if row.reference}

    def on(self, split: str, tables: Tables, baselines: Mapping[str, Any], kept: Path) -> OnSplit:
        """Tables and verdicts of a split; ``kept`` has the groups of each of the baselines."""
        contenders = {row.label: self._contender(row, split) for row in self.rows}
        rivals: dict[str, Mapping[str, np.ndarray]] = {
            name: read_groups([kept / name]) for name in baselines
        }
        values = {label: each.values for label, each in contenders.items()}
        models = {row.label: row.runs[0].model for row in self.rows}
        fitted = {label: name for label, each in models.items() if (name := each.baseline_label)}
        if fitted.keys() < contenders.keys():  # baselines as rows stand beside the others
            rivals |= {name: contenders.pop(label).values for label, name in fitted.items()}
        verdicts = judge(contenders, rivals, tables, split)
        rows = [
            replace(row, lead=verdicts[row.name].lead) if row.name in verdicts else row
            for row in tested_rows(values, self.runs, self.references, split)
        ]
        return OnSplit(
            in_order(baseline_rows(baselines), rows),
            subset_rows(baselines, self.runs, split, self.references),
            verdicts,
        )

    def best_row(self, found: Mapping[str, OnSplit]) -> tuple[str, list[dict[str, Any]]]:
        """The row to use, and by split the verdicts on it.

        It is the best model of the first split, or the row of the baseline that is above it.
        """
        best = next((each.verdict["model"] for each in found.values() if each.verdict), None)
        if best is None:
            return self.rows[0].label, []
        verdicts = [
            each.verdicts[best].summary() for each in found.values() if best in each.verdicts
        ]
        lost = loss(verdicts)
        for row in self.rows:
            if lost is not None and row.runs[0].model.baseline_label == lost["rival"]:
                return row.label, []
        return best, verdicts

    def _contender(self, row: ComparedRow, split: str) -> Contender:
        results = self.runs[row.label]
        folders = [
            folder.diagnostics(run["measurement"], split)
            for folder, run in zip(self.folders[row.label], results, strict=True)
        ]
        return Contender(row.runs[0], read_groups(folders), results[0].get("training", {}))


def _tables_of(config: RunConfig, splits: Mapping[str, OnSplit]) -> dict[str, dict[str, Cells]]:
    """By split and title its tables, the main one first."""
    tables = {}
    for split, found in splits.items():
        seeds = max(row.seeds for row in found.rows)
        title = f"{config.data.name} · {split}"
        if seeds > 1:
            title += f" · mean ± standard deviation over {seeds} seeds"
        tables[split] = split_tables(title, found.rows, found.subsets)
    return tables


def _write(
    path: Path,
    splits: Mapping[str, OnSplit],
    tables: Mapping[str, Mapping[str, Cells]],
    console: Console,
    more: Mapping[str, Cells],
    *,
    verbose: bool,
) -> None:
    """Print the main tables (``verbose``: all) with verdicts; write all as Markdown and CSV."""
    text, lines, shown = [], [], dict[str, list[Cells]]()
    for split, found in splits.items():
        lines += csv_table(found.rows, split) + csv_table(found.subsets, split)
        title = next(iter(tables[split]))
        if twin := twin_of(shown, split, tables[split]):
            console.print(f"{title}: the numbers of {twin}\n", markup=False, soft_wrap=True)
            text.append(f"### {title}\n\nThe numbers of {twin}.\n")
            continue
        marks = legend(found.rows)
        show_split(console, tables[split], found.verdict, marks, verbose=verbose)
        for number, (name, cells) in enumerate(tables[split].items()):
            text.append(f"### {name}\n\n{markdown_table(cells)}")
            if number == 0:
                said = [marks] if marks else []
                said += [" ".join(verdict_lines(found.verdict))] if found.verdict else []
                text.extend(f"{each}\n" for each in said)
    for name, cells in more.items():
        if cells:
            print_table(console, f"\n{name}", cells)
            text.append(f"### {name}\n\n{markdown_table(cells)}")
    write_text(path / "results.md", "\n".join(text))
    write_text(path / "results.csv", csv_text(lines))
