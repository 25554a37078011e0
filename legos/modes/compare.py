"""Several models, several seeds, the baselines: one table a split.

Every (model, seed) is an ordinary run: a finished one is reused, an interrupted one goes on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from rich.console import Console

from legos.config.comparison import comparison_curve
from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.errors import DataError
from legos.evaluation.baselines import measure_baselines, share_texts
from legos.evaluation.measure import refuse_unmeasurable
from legos.files import sha256_of_text, write_text
from legos.metrics.beyond import paired_p_values
from legos.modes.train_test import run_model
from legos.records import read_array
from legos.reports.figures import write_curves
from legos.reports.tables import (
    ResultRow,
    baseline_rows,
    csv_table,
    csv_text,
    in_order,
    markdown_table,
    model_row,
    print_table,
    split_tables,
    subset_rows,
    with_improvement,
)
from legos.runs.folder import RunFolder, Tracker, run_folder
from legos.runs.identity import ID_LENGTH, measurement_identity, tables_content
from legos.settings import OF_WEIGHTS, deciding
from legos.workplace.device import refuse_uneven
from legos.workplace.workplace import Workplace, honesty_notices

_AGAIN = "delete results.json of the run, and the same command measures again"
LEVELS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


def compare(config: RunConfig, accelerator: Accelerator, console: Console) -> dict[str, Any]:
    """Run every model with every seed, print the tables, write them as JSON, CSV and Markdown.

    Args:
        config: with section ``exp.compare``.
        accelerator: device, precision and processes of all of them.
        console: where the tables go.

    Returns:
        What ``results.json`` of the comparison holds.
    """
    tables, compared = Tables.load(config.data.folder), config.rows()
    for line in honesty_notices(tables):
        console.print(line)
    for row in compared:
        for run in row.runs:  # before the first of them starts
            refuse_unmeasurable(run, tables)
            refuse_uneven(run, accelerator.num_processes)
    folders: dict[str, list[RunFolder]] = {}
    runs: dict[str, list[dict[str, Any]]] = {}
    for row in compared:
        runs[row.label] = [run_model(run, accelerator, baselines=False) for run in row.runs]
        folders[row.label] = [run_folder(run, tables) for run in row.runs]
    references = {row.label: row.reference for row in compared if row.reference}
    folder = _folder(config, tables, runs, references)
    summary: dict[str, Any] = {
        "data": config.data.name,
        "fingerprint": tables.fingerprint,
        "runs": {label: [str(run.path) for run in each] for label, each in folders.items()},
    }
    results = folder.results(of_comparison=True) or {}
    baselines: dict[str, Any] = results.get("baselines", {})
    share_texts(config, tables, accelerator, baselines)
    if not accelerator.is_main_process:
        return summary
    with folder.lock():
        tracker = Tracker(folder.path)
        workplace = Workplace.open(config, accelerator, tables, shapes_only=True)
        measure_baselines(workplace, tracker, baselines)
        tracker.close()
        summary |= {"baselines": baselines, "rows": {}, "subsets": {}}
        found = {}
        for split in config.data.splits.test:
            beside = {
                name: baselines[split][name]
                for name in config.exp.baselines
                if name in baselines[split]
            }
            rows = _split_rows(split, beside, runs, folders, references)
            subsets = subset_rows(beside, runs, split, references)
            found[split] = rows, subsets
            summary["rows"][split] = [vars(row) for row in rows]
            summary["subsets"][split] = [vars(row) for row in subsets]
        _write(folder.path, config, found, console)
        curve = comparison_curve(config)
        if curve is not None:
            summary["curve"] = {"key": curve.key, "values": curve.values}
            for split, (rows, _) in found.items():
                drawn = write_curves(folder.path, curve, split, rows)
                console.print(f"metrics over {curve.key} in {drawn[0]}", markup=False)
        folder.write_results(summary)
    return summary


def _folder(
    config: RunConfig,
    tables: Tables,
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    references: Mapping[str, str],
) -> RunFolder:
    """Where the tables lie, named by the runs, how they are measured, and the baselines' data."""
    identity = {
        "rows": [
            [references.get(label), *([run["run"], run["measurement"]] for run in each)]
            for label, each in runs.items()
        ],
        "data": [deciding(config.data, OF_WEIGHTS), tables_content(tables)],
        "measurement": vars(measurement_identity(config)),
        "splits": config.data.splits.test,
    }
    name = f"compare-{sha256_of_text(json.dumps(identity, sort_keys=True))[:ID_LENGTH]}"
    return RunFolder(config.exp.runs_folder / config.data.name / name)


def _split_rows(
    split: str,
    baselines: Mapping[str, Any],
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    folders: Mapping[str, Sequence[RunFolder]],
    references: Mapping[str, str],
) -> list[ResultRow]:
    """Baselines, models beside what they are measured against, and the bound."""
    values = {
        label: _group_values(
            [
                folder.diagnostics(run["measurement"], split)
                for folder, run in zip(each, runs[label], strict=True)
            ]
        )
        for label, each in folders.items()
    }
    marks = significance_marks(values, references)
    rows = [
        replace(model_row(label, results, split), marks=marks[label])
        for label, results in runs.items()
    ]
    return in_order(baseline_rows(baselines), with_improvement(rows, references))


def _group_values(folders: Sequence[Path]) -> dict[str, np.ndarray]:
    """Per metric its value in each group, mean over the runs of the seeds."""
    values: dict[str, list[np.ndarray]] = {}
    for folder in folders:
        for path in sorted(folder.glob("groups-*.npy")):
            name = path.stem.removeprefix("groups-")
            values.setdefault(name, []).append(
                read_array(path, dtype="float64", shape=(None,), hint=_AGAIN)
            )
    for name, each in values.items():
        if len({len(array) for array in each}) > 1:
            raise DataError(
                f"{folders[0]}: {name} of {len(each[0]):,} groups, but the "
                f"runs of other seeds have {', '.join(f'{len(a):,}' for a in each[1:])}; {_AGAIN}"
            )
    return {name: np.mean(each, axis=0) for name, each in values.items()}


def significance_marks(
    values: Mapping[str, Mapping[str, np.ndarray]], references: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Stars of a paired t-test over groups, Holm-corrected over the rows that share a reference.

    Args:
        values: by row and metric the value in each group ``(G,)``.
        references: by row the row that it is tested against; a row without one has no stars.

    Returns:
        by row and metric ``*`` p < .05, ``**`` < .01, ``***`` < .001 or nothing.
    """
    marks: dict[str, dict[str, str]] = {label: {} for label in values}
    for reference in dict.fromkeys(references.values()):
        family = [label for label, other in references.items() if other == reference]
        for metric, expected in values[reference].items():
            others = {label: values[label][metric] for label in family}
            for label, found in paired_p_values(expected, others).items():
                star = next((star for level, star in LEVELS if found["t_test_holm"] < level), "")
                marks[label][metric] = star
    return marks


def _write(
    path: Path,
    config: RunConfig,
    splits: Mapping[str, tuple[Sequence[ResultRow], Sequence[ResultRow]]],
    console: Console,
) -> None:
    """Print every table and write it as Markdown and CSV; ``splits`` has rows and subsets."""
    text, lines = [], []
    for split, (rows, subsets) in splits.items():
        seeds = max(row.seeds for row in rows)
        title = f"{config.data.name} · {split}"
        if seeds > 1:
            title += f" · mean ± standard deviation over {seeds} seeds"
        for name, cells in split_tables(title, rows, subsets).items():
            print_table(console, name, cells)
            console.print()
            text.append(f"### {name}\n\n{markdown_table(cells)}")
        lines += csv_table(rows, split) + csv_table(subsets, split)
    write_text(path / "results.md", "\n".join(text))
    write_text(path / "results.csv", csv_text(lines))
    console.print(f"tables in {path}", markup=False)
