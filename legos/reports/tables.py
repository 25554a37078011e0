"""Results tables: one row a method, on the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

Cells = list[list[str]]
"""A table as text: the header, then a line a row."""

_COSTS = ("parameters", "s/epoch", "test s", "peak MB")
_WIDEST = 500
_CSV_COLUMNS = (
    *("split", "method", "metric", "mean", "deviation", "seeds"),
    *("reference", "relative"),  # improvement over the reference in %
)
_WORDS = ("", "reference")  # columns of words


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
        reference: name of the row that this one is measured against; "" = of none.
        marks: per metric, how surely it differs from the reference ("*", "**").
        relative: improvement over the reference in % by metric; positive = better.
    """

    name: str
    metrics: dict[str, float]
    deviations: dict[str, float] = field(default_factory=dict)
    seeds: int = 0
    parameters: int | None = None
    epoch_seconds: float | None = None
    test_seconds: float | None = None
    memory: float | None = None
    reference: str = ""
    marks: dict[str, str] = field(default_factory=dict)
    relative: dict[str, float] = field(default_factory=dict)

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


def value_cells(rows: Sequence[ResultRow]) -> Cells:
    """Metrics and costs of every row; a column no row fills is left out."""
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    header = ["", *metrics, *_COSTS]
    lines = [row.cells(metrics) for row in rows]
    kept = [i for i in range(len(header)) if i == 0 or any(line[i] for line in lines)]
    return [[line[i] for i in kept] for line in (header, *lines)]


def relative_cells(rows: Sequence[ResultRow]) -> Cells:
    """Improvement over the reference in % of every row that has one."""
    metrics = list(dict.fromkeys(name for row in rows for name in row.relative))
    lines = [
        [row.name, row.reference, *(_percent(row, name) for name in metrics)]
        for row in rows
        if row.reference
    ]
    return [["", "reference", *metrics], *lines]


def print_table(console: Console, title: str, cells: Cells) -> None:
    """One aligned table."""
    header, *lines = cells
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in header:
        table.add_column(name, justify="left" if name in _WORDS else "right", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    # a pipe is 80 columns wide to rich, and a cut number is worse than a long line
    width, console.width = console.width, _WIDEST
    console.print(table)
    console.width = width


def markdown_table(cells: Cells) -> str:
    """The same table for a README."""
    header, *lines = cells
    rule = ["---" if name in _WORDS else "--:" for name in header]
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, rule, *lines))


def csv_table(rows: Sequence[ResultRow], split: str) -> list[list[str]]:
    """Long form without rounding: the columns of ``csv_text``, a line a metric."""
    return [
        [
            *(split, row.name, name, repr(value), repr(row.deviations.get(name, 0.0))),
            *(str(row.seeds), row.reference),
            repr(row.relative[name]) if name in row.relative else "",
        ]
        for row in rows
        for name, value in row.metrics.items()
    ]


def csv_text(lines: Sequence[Sequence[str]]) -> str:
    """CSV with a header over the lines of ``csv_table``."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    writer.writerows(lines)
    return target.getvalue()


def _percent(row: ResultRow, name: str) -> str:
    if name not in row.relative:
        return ""
    return f"{row.relative[name]:+.2f}{row.marks.get(name, '')}"


def _short(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
