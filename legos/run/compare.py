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

from legos.config.comparison import comparison_runs
from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.files import sha256_of_text, write_text
from legos.metrics.significance import paired_p_values
from legos.run.assemble import Workplace
from legos.run.folder import ID_LENGTH, RunFolder
from legos.run.main import run_folder, run_model
from legos.run.measure_baselines import measure_baselines
from legos.run.show import baseline_rows, in_order, model_row, print_split, subset_rows
from legos.run.table import ResultRow, csv_table, csv_text, markdown_table
from legos.run.tracking import Tracker

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
    tables, members = Tables.load(config.data.folder), comparison_runs(config)
    folders: dict[str, list[RunFolder]] = {}
    runs: dict[str, list[dict[str, Any]]] = {}
    for label, member in zip(_labels(members), members, strict=True):
        runs.setdefault(label, []).append(run_model(member, accelerator, baselines=False))
        folders.setdefault(label, []).append(run_folder(member, tables, accelerator))
    identity = [[folder.id for folder in each] for each in folders.values()]
    name = f"compare-{sha256_of_text(json.dumps(identity))[:ID_LENGTH]}"
    folder = RunFolder(config.exp.runs_folder / config.data.name / name)
    summary: dict[str, Any] = {
        "data": config.data.name,
        "fingerprint": tables.fingerprint,
        "runs": {label: [str(run.path) for run in each] for label, each in folders.items()},
    }
    if not accelerator.is_main_process:
        return summary
    known = (folder.results() or {}).get("baselines", {})
    with folder.lock():
        tracker = Tracker(folder.path)
        place = Workplace.open(config, accelerator, tables, shapes_only=True)
        summary["baselines"] = measure_baselines(place, tracker, known)
        tracker.close()
        splits = {
            split: _split_rows(split, summary["baselines"][split], runs, folders)
            for split in config.data.splits.test
        }
        summary["rows"] = {split: [vars(row) for row in rows] for split, rows in splits.items()}
        _write(folder.path, config, splits, runs, summary["baselines"], console)
        folder.write_results(summary)
    return summary


def _labels(members: Sequence[RunConfig]) -> list[str]:
    """The model's name, with that of the token vectors where a model stands with several.

    Different settings of one name are told apart by a number.
    """
    several = len({member.embed.name for member in members}) > 1
    settings: dict[str, list[Any]] = {}
    labels = []
    for member in members:
        name = member.model.name + (f" + {member.embed.name}" if several else "")
        known = settings.setdefault(name, [])
        setting = (member.model, member.embed)
        if setting not in known:
            known.append(setting)
        number = known.index(setting)
        labels.append(name + (f" ({number + 1})" if number else ""))
    return labels


def _split_rows(
    split: str,
    baselines: Mapping[str, Any],
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    folders: Mapping[str, Sequence[RunFolder]],
) -> list[ResultRow]:
    """Baselines, models with their stars against the first one, and the bound."""
    values = {label: _group_values(each, split) for label, each in folders.items()}
    marks = _marks(values, next(iter(values)))
    rows = [
        replace(model_row(label, results, split), marks=marks[label])
        for label, results in runs.items()
    ]
    return in_order(baseline_rows(baselines), rows)


def _group_values(folders: Sequence[RunFolder], split: str) -> dict[str, np.ndarray]:
    """Per metric its value in each group, mean over the runs of the seeds."""
    values: dict[str, list[np.ndarray]] = {}
    for folder in folders:
        for path in sorted((folder.diagnostics / split).glob("groups-*.npy")):
            name = path.stem.removeprefix("groups-")
            values.setdefault(name, []).append(np.load(path, allow_pickle=False))
    return {name: np.mean(each, axis=0) for name, each in values.items()}


def _marks(
    values: Mapping[str, Mapping[str, np.ndarray]], reference: str
) -> dict[str, dict[str, str]]:
    """Stars of a paired t-test over groups against the first model, Holm-corrected over models.

    Args:
        values: by model and metric the value in each group.
        reference: the first model.
    """
    marks: dict[str, dict[str, str]] = {label: {} for label in values}
    for metric, expected in values[reference].items():
        others = {label: each[metric] for label, each in values.items() if label != reference}
        for label, found in paired_p_values(expected, others).items():
            star = next((star for level, star in LEVELS if found["t_test_holm"] < level), "")
            marks[label][metric] = star
    return marks


def _write(
    path: Path,
    config: RunConfig,
    splits: Mapping[str, Sequence[ResultRow]],
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    baselines: Mapping[str, Mapping[str, Any]],
    console: Console,
) -> None:
    """Print every table and write it as Markdown and CSV."""
    text, lines = [], []
    for split, rows in splits.items():
        seeds = max(row.seeds for row in rows)
        title = f"{config.data.name} · {split}"
        if seeds > 1:
            title += f" · mean ± standard deviation over {seeds} seeds"
        subsets = subset_rows(baselines[split], runs, split)
        print_split(console, title, rows, subsets)
        text.append(f"### {title}\n\n{markdown_table(rows)}\n{markdown_table(subsets)}")
        lines += csv_table(rows, split) + csv_table(subsets, split)
    write_text(path / "results.md", "\n".join(text))
    write_text(path / "results.csv", csv_text(lines))
    console.print(f"tables in {path}", markup=False)
