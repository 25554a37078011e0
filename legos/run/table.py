"""The results table: one row a method, on the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

_COSTS = ("parameters", "s/epoch", "test s", "peak MB")
_WIDEST = 500


@dataclass(frozen=True)
class ResultRow:
    """One method on one split.

    Attributes:
        name: of the model or baseline.
        metrics: mean over seeds by metric.
        deviations: standard deviation over seeds by metric; empty with one seed.
        seeds: number of seeds; 0 where chance plays no part.
        parameters: trained parameters.
        epoch_seconds: training time of an epoch.
        test_seconds: time to score and measure the split.
        memory: peak memory in MiB.
        marks: per metric, how it differs from the first model ("*", "**").
    """

    name: str
    metrics: dict[str, float]
    deviations: dict[str, float] = field(default_factory=dict)
    seeds: int = 0
    parameters: int | None = None
    epoch_seconds: float | None = None
    test_seconds: float | None = None
    memory: float | None = None
    marks: dict[str, str] = field(default_factory=dict)

    def cells(self, metrics: Sequence[str]) -> list[str]:
        """The row as text: name, metrics, costs."""
        costs = [
            "" if self.parameters is None else f"{self.parameters:,}",
            _short(self.epoch_seconds, 1),
            _short(self.test_seconds, 1),
            _short(self.memory, 0),
        ]
        return [self.name, *(self._metric(name) for name in metrics), *costs]

    def _metric(self, name: str) -> str:
        if name not in self.metrics:
            return ""
        text = f"{self.metrics[name]:.4f}"
        if name in self.deviations:
            text += f" ± {self.deviations[name]:.4f}"
        return text + self.marks.get(name, "")


def metric_names(rows: Sequence[ResultRow]) -> list[str]:
    """Every metric of any row, in the order met."""
    return list(dict.fromkeys(name for row in rows for name in row.metrics))


def print_table(console: Console, title: str, rows: Sequence[ResultRow]) -> None:
    """One aligned table; a column no row fills is left out."""
    header, lines = _filled(rows)
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    # a pipe is 80 columns wide to rich, and a cut number is worse than a long line
    width, console.width = console.width, _WIDEST
    console.print(table)
    console.width = width


def markdown_table(rows: Sequence[ResultRow]) -> str:
    """The same table for a README."""
    header, lines = _filled(rows)
    rule = ["---"] + ["--:"] * (len(header) - 1)
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, rule, *lines))


def csv_table(rows: Sequence[ResultRow], split: str) -> list[list[str]]:
    """Long form without rounding: split, method, metric, mean, deviation, seeds."""
    return [
        [split, row.name, name, repr(value), repr(row.deviations.get(name, 0.0)), str(row.seeds)]
        for row in rows
        for name, value in row.metrics.items()
    ]


def csv_text(lines: Sequence[Sequence[str]]) -> str:
    """CSV with a header over the lines of ``csv_table``."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(["split", "method", "metric", "mean", "deviation", "seeds"])
    writer.writerows(lines)
    return target.getvalue()


def _filled(rows: Sequence[ResultRow]) -> tuple[list[str], list[list[str]]]:
    metrics = metric_names(rows)
    header = ["", *metrics, *_COSTS]
    lines = [row.cells(metrics) for row in rows]
    kept = [i for i in range(len(header)) if i == 0 or any(line[i] for line in lines)]
    return [header[i] for i in kept], [[line[i] for i in kept] for line in lines]


def _short(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
