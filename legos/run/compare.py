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
from scipy.stats import ttest_rel

from legos.config.comparison import comparison_runs
from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.files import sha256_of_text, write_json, write_text
from legos.run.folder import ID_LENGTH, RunFolder
from legos.run.main import measure_baselines, run_folder, run_model
from legos.run.show import model_row, split_rows, subset_rows
from legos.run.table import ResultRow, csv_table, csv_text, markdown_table, print_table

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
    runs: dict[str, list[tuple[RunFolder, dict[str, Any]]]] = {}
    for label, member in zip(_labels(members), members, strict=True):
        results = run_model(member, accelerator)
        runs.setdefault(label, []).append((run_folder(member, tables, accelerator), results))
    ids = [folder.id for each in runs.values() for folder, _ in each]
    identity = json.dumps([sorted(ids), list(config.exp.baselines)])
    name = f"compare-{sha256_of_text(identity)[:ID_LENGTH]}"
    path = config.exp.runs_folder / config.data.name / name
    baselines = measure_baselines(config, accelerator, path)
    summary = {
        "data": config.data.name,
        "fingerprint": tables.fingerprint,
        "runs": {label: [folder.id for folder, _ in each] for label, each in runs.items()},
        "splits": {
            split: _split_rows(split, baselines.get(split, {}), runs)
            for split in config.data.splits.test
        },
    }
    if accelerator.is_main_process:
        _write(path, config.data.name, summary["splits"], console)
        summary["splits"] = {
            split: [vars(row) for row in rows] for split, rows in summary["splits"].items()
        }
        write_json(path / "results.json", {**summary, "baselines": baselines})
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
    runs: Mapping[str, Sequence[tuple[RunFolder, dict[str, Any]]]],
) -> list[ResultRow]:
    first = _group_values([folder for folder, _ in next(iter(runs.values()))], split)
    others = len(runs) - 1
    rows: list[ResultRow] = []
    for number, (label, each) in enumerate(runs.items()):
        results = [found for _, found in each]
        row = model_row(label, results, split)
        if number:
            own = _group_values([folder for folder, _ in each], split)
            row = replace(row, marks=_marks(own, first, comparisons=others))
        rows += [row, *subset_rows(label, results, split)]
    return split_rows(baselines, rows)


def _group_values(folders: Sequence[RunFolder], split: str) -> dict[str, np.ndarray]:
    """Per metric its value in each group, mean over the runs of the seeds."""
    values: dict[str, list[np.ndarray]] = {}
    for folder in folders:
        for path in sorted((folder.diagnostics / split).glob("groups-*.npy")):
            name = path.stem.removeprefix("groups-")
            values.setdefault(name, []).append(np.load(path, allow_pickle=False))
    return {name: np.mean(each, axis=0) for name, each in values.items()}


def _marks(
    own: Mapping[str, np.ndarray], first: Mapping[str, np.ndarray], *, comparisons: int
) -> dict[str, str]:
    """Stars of a paired t-test over groups against the first model, Bonferroni-corrected."""
    marks = {}
    for name in own.keys() & first.keys():
        difference = own[name] - first[name]
        difference = difference[np.isfinite(difference)]
        if difference.size < 2 or not difference.any():
            continue
        p = float(ttest_rel(difference, np.zeros_like(difference)).pvalue) * comparisons
        star = next((star for level, star in LEVELS if p < level), "")
        if star:
            marks[name] = star
    return marks


def _write(
    path: Path, data: str, splits: Mapping[str, Sequence[ResultRow]], console: Console
) -> None:
    text, lines = [], []
    for split, rows in splits.items():
        seeds = max(row.seeds for row in rows)
        title = f"{data} · {split}" + (f" · mean ± deviation over {seeds} seeds" * (seeds > 1))
        print_table(console, title, rows)
        console.print()
        text.append(f"### {title}\n\n{markdown_table(rows)}")
        lines += csv_table(rows, split)
    write_text(path / "results.md", "\n".join(text))
    write_text(path / "results.csv", csv_text(lines))
    console.print(f"written to {path}")
