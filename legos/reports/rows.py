"""Rows of the results tables out of results: baselines, models over seeds, their subsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console

from legos.evaluation.baselines.methods import ORACLE, baseline_title
from legos.metrics.names import larger_is_better
from legos.metrics.subsets import ALL
from legos.reports.tables import Cells, ResultRow, print_table, relative_cells, value_cells


def model_row(label: str, runs: Sequence[Mapping[str, Any]], split: str) -> ResultRow:
    """One model on one split: mean and sample deviation over the runs of its seeds."""
    measured = [run["splits"][split] for run in runs]
    values = _shared([each["rows"][ALL] for each in measured])
    trained = [run["training"] for run in runs if "training" in run]
    return ResultRow(
        name=label,
        metrics={name: float(np.mean(each)) for name, each in values.items()},
        deviations={name: float(np.std(each, ddof=1)) for name, each in values.items()}
        if len(runs) > 1
        else {},
        seeds=len(runs),
        parameters=runs[0].get("parameters"),
        epoch_seconds=_mean([each["seconds_per_epoch"] for each in trained]),
        test_seconds=_mean([each["seconds"] for each in measured]),
        memory=_mean([each["peak_memory_mb"]["process"] for each in trained]),
    )


def baseline_rows(baselines: Mapping[str, Mapping[str, Any]]) -> dict[str, ResultRow]:
    """A row each; ``baselines`` maps names to what ``SplitResult.summary()`` gives."""
    return {
        name: ResultRow(
            baseline_title(name), dict(found["rows"][ALL]), test_seconds=found["seconds"]
        )
        for name, found in baselines.items()
    }


def in_order(baselines: Mapping[str, ResultRow], models: Sequence[ResultRow]) -> list[ResultRow]:
    """Baselines above the models, what no model can pass below them."""
    above = [row for name, row in baselines.items() if name != ORACLE]
    below = [row for name, row in baselines.items() if name == ORACLE]
    return [*above, *models, *below]


def subset_rows(
    baselines: Mapping[str, Mapping[str, Any]],
    models: Mapping[str, Sequence[Mapping[str, Any]]],
    split: str,
    references: Mapping[str, str] | None = None,
) -> list[ResultRow]:
    """Every method on cold and warm items, cold and active users, unseen and seen users.

    Args:
        baselines: by name what ``SplitResult.summary()`` gives.
        models: by label the results of the runs of its seeds.
        split: a test split.
        references: by label the label of the row it is measured against.
    """
    measured = {baseline_title(name): [found["rows"]] for name, found in baselines.items()}
    bound = measured.pop(baseline_title(ORACLE), None)
    for label, runs in models.items():
        measured[label] = [run["splits"][split]["rows"] for run in runs]
    if bound is not None:
        measured[baseline_title(ORACLE)] = bound
    subsets = dict.fromkeys(
        subset for each in measured.values() for subset in each[0] if subset != ALL
    )
    rows = []
    for subset in subsets:
        for label, seeds in measured.items():
            values = _shared([each.get(subset, {}) for each in seeds])
            means = {name: float(np.mean(each)) for name, each in values.items()}
            if means:  # not every method has every row
                rows.append(ResultRow(f"{subset}: {label}", means))
    return with_improvement(
        rows,
        {
            f"{subset}: {label}": f"{subset}: {reference}"
            for subset in subsets
            for label, reference in (references or {}).items()
        },
    )


def with_improvement(rows: Sequence[ResultRow], references: Mapping[str, str]) -> list[ResultRow]:
    """The same rows with their relative improvement over the rows that ``references`` names.

    Mean over seeds against mean over seeds, in % of the reference; positive = better. Metrics of
    which more is not simply better have none, nor has a metric that the reference lacks or has 0.
    """
    metrics = {row.name: row.metrics for row in rows}
    return [
        replace(
            row,
            reference=references[row.name],
            relative=_improvement(row.metrics, metrics[references[row.name]]),
        )
        if references.get(row.name) in metrics
        else row
        for row in rows
    ]


def _improvement(found: Mapping[str, float], reference: Mapping[str, float]) -> dict[str, float]:
    rising = {name: larger_is_better(name) for name in found if reference.get(name)}
    compared = [name for name, better in rising.items() if better is not None]
    signs = {name: 1 if rising[name] else -1 for name in compared}
    return {
        name: 100 * signs[name] * (found[name] - reference[name]) / reference[name]
        for name in compared
    }


def split_tables(
    title: str, rows: Sequence[ResultRow], subsets: Sequence[ResultRow]
) -> dict[str, Cells]:
    """By title the tables of a split that have a row: values and, after them, improvements."""
    relative = "relative improvement over the reference, %"
    tables = {title: value_cells(rows), f"{title} · {relative}": relative_cells(rows)}
    alike: dict[frozenset[str], list[ResultRow]] = {}  # rows of prompts have metrics of their own
    for row in subsets:
        alike.setdefault(frozenset(row.metrics), []).append(row)
    for each in alike.values():
        apart = f"{title} · by items and users"
        if len(alike) > 1:
            apart = f"{title} · {', '.join(list(each[0].metrics)[:3])}"
        while apart in tables:
            apart += ", ..."
        tables |= {apart: value_cells(each), f"{apart} · {relative}": relative_cells(each)}
    return {name: cells for name, cells in tables.items() if len(cells) > 1}


def show_run(console: Console, results: Mapping[str, Any]) -> None:
    """Print the tables of one run."""
    label = results["model"]
    for split, found in results.get("splits", {}).items():
        baselines = results.get("baselines", {}).get(split, {})
        rows = in_order(baseline_rows(baselines), [model_row(label, [results], split)])
        groups = found["counts"][ALL].get("groups", 0)
        title = f"{results['data']} · {split} · {groups:,} groups"
        subsets = subset_rows(baselines, {label: [results]}, split)
        for name, cells in split_tables(title, rows, subsets).items():
            print_table(console, name, cells)
            console.print()


def _shared(runs: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Per metric its values; a metric that is undefined in one run is left out."""
    return {
        name: [run[name] for run in runs] for name in runs[0] if all(name in run for run in runs)
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
