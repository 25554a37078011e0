"""The curves of one run: what ``metrics.jsonl`` says of its training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from legos.metrics.names import parse_metric
from legos.records import check_record, json_lines
from legos.reports import figures as plots
from legos.reports.tables import Cells
from legos.runs.tracking import LINES, METRICS_FILE, OBSERVED, Line


def training_curves(records: Sequence[Mapping[str, Any]], best: int | None) -> list[str]:
    """Validation metrics, training loss, then what else was observed; empty without records.

    Args:
        records: lines of ``metrics.jsonl``.
        best: the epoch that was kept.
    """
    steps = [record for record in records if record["kind"] == "train"]
    epochs = [record for record in records if record["kind"] == "valid"]
    figures = []
    names = list(dict.fromkeys(name for record in epochs for name in record["metrics"]))
    rising = [name for name in names if parse_metric(name).maximize]
    falling = [name for name in names if name not in rising]  # of another scale: its own figure
    for each in (rising, falling):
        if each:
            figures.append(plots.validation_curve(epochs, each, best))
    if steps or epochs:
        figures.append(plots.loss_curve(steps, epochs))
    observed = observed_lines(records)
    return [*figures, *(plots.observed_curve(title, each) for title, each in observed.items())]


def observed_lines(
    records: Sequence[Mapping[str, Any]],
) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """By figure and line the epochs and values that were observed; a line for each task."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for record in records:
        for name, value in record.get(OBSERVED, {}).items():
            figure, _, line = name.partition("/")
            label = ", ".join(filter(None, (line, record.get("task", ""))))
            lines = found.setdefault(figure.replace("_", " "), {})
            lines.setdefault(label, []).append((record["epoch"], value))
    return found


def observed_cells(runs: Mapping[str, Sequence[Path]]) -> Cells:
    """What runs observed in the last epoch of each kind of pass: a row a model and pass.

    Args:
        runs: by model the folders of its runs, over which values are means.

    Returns:
        Header and rows as text; empty where nothing was observed.
    """
    found: dict[tuple[str, str], list[Mapping[str, float]]] = {}
    for label, folders in runs.items():
        for folder in folders:
            last: dict[str, Mapping[str, float]] = {}
            for record in read_metrics(folder / METRICS_FILE):
                if OBSERVED in record:
                    where = f"{record.get('stage', '')} {record.get('task', '')}".strip()
                    last[where] = record[OBSERVED]
            for where, values in last.items():
                found.setdefault((label, where), []).append(values)
    names = list(dict.fromkeys(name for each in found.values() for one in each for name in one))
    if not names:
        return []
    rows = [
        [f"{label}, {where}", *(_mean_cell(each, name) for name in names)]
        for (label, where), each in found.items()
    ]
    return [["", *(name.replace("_", " ") for name in names)], *rows]


def _mean_cell(each: Sequence[Mapping[str, float]], name: str) -> str:
    values = [values.get(name, math.nan) for values in each]
    return "" if any(map(math.isnan, values)) else f"{fmean(values):.4f}"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl; a last line without its end is one that a kill cut off."""
    if not path.is_file():
        return []
    records = []
    for number, value in json_lines(path.read_bytes(), str(path)):
        where = f"{path}:{number}"
        line = check_record(value, Line, where)
        check_record(value, LINES.get(line.kind, Line), where)
        records.append(value)
    return records
