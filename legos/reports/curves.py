"""The curves of one run: what ``metrics.jsonl`` says of its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from legos.metrics.names import parse_metric
from legos.reports import figures as plots
from legos.runs.folder import OBSERVED


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
