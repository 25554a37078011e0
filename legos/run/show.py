"""Rows of the results table out of results: baselines, models over seeds, cold and warm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from legos.run.measure import ALL
from legos.run.table import ResultRow, print_table

BASELINE_NAMES = {
    "random": "random",
    "popularity": "popularity",
    "item_knn": "item-kNN",
    "text_cosine": "text cosine",
    "item_knn_text_cosine": "item-kNN + text cosine",
    "oracle": "best reachable",
}
_LAST = ("oracle",)  # what no model can pass stands below the models


def model_row(label: str, runs: Sequence[Mapping[str, Any]], split: str) -> ResultRow:
    """One model on one split: mean and sample deviation over the runs of its seeds."""
    measured = [run["splits"][split] for run in runs]
    values = {name: [m["rows"][ALL][name] for m in measured] for name in measured[0]["rows"][ALL]}
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


def subset_rows(label: str, runs: Sequence[Mapping[str, Any]], split: str) -> list[ResultRow]:
    """The same model on cold and warm items and users, metrics only."""
    rows = []
    for subset in runs[0]["splits"][split]["rows"]:
        if subset == ALL:
            continue
        found = [run["splits"][split]["rows"][subset] for run in runs]
        means = {name: float(np.mean([each[name] for each in found])) for name in found[0]}
        rows.append(ResultRow(f"{label}, {subset}", means, seeds=len(runs)))
    return rows


def split_rows(
    baselines: Mapping[str, Mapping[str, Any]], models: Sequence[ResultRow]
) -> list[ResultRow]:
    """Baselines above the models, the bound below them.

    Args:
        baselines: per baseline what ``SplitResult.summary()`` gives.
        models: their rows.
    """
    rows = {
        name: ResultRow(
            BASELINE_NAMES.get(name, name),
            dict(found["rows"][ALL]),
            test_seconds=found["seconds"],
        )
        for name, found in baselines.items()
    }
    above = [row for name, row in rows.items() if name not in _LAST]
    return [*above, *models, *(row for name, row in rows.items() if name in _LAST)]


def show_run(console: Console, results: Mapping[str, Any]) -> None:
    """Print a table for each split of one run."""
    for split, found in results.get("splits", {}).items():
        label = results["model"]
        models = [model_row(label, [results], split), *subset_rows(label, [results], split)]
        rows = split_rows(results.get("baselines", {}).get(split, {}), models)
        groups = found["counts"][ALL].get("groups", 0)
        print_table(console, f"{results['data']} · {split} · {groups:,} groups", rows)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
