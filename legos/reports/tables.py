"""Results tables: one row a method, on the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from textwrap import wrap
from typing import Any

from rich.console import Console
from rich.table import Table

from legos.metrics.beyond import ALL
from legos.metrics.names import is_beyond_accuracy
from legos.reports.rows import ResultRow, baseline_rows, in_order, model_row, subset_rows
from legos.runs.passes import short_trainings

Cells = list[list[str]]
"""A table as text: the header, then a line a row."""

LEAD = "vs baseline"  # title of the column of verdicts
_COSTS = ("parameters", "s/epoch", "CPU s", "test s", "peak MB")
_LEFT_OUT = ("parameters", "CPU s", "test s", "peak MB")  # of one screen
SCREEN = 100  # columns
_WIDEST = 500
_CSV_COLUMNS = (
    *("split", "method", "metric", "mean", "deviation", "seeds"),
    *("reference", "relative"),  # improvement over the reference in %
)
_WORDS = ("", "reference", "processes")  # columns of words


def value_cells(rows: Sequence[ResultRow]) -> Cells:
    """Metrics and costs of every row; a column no row fills is left out."""
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    watched = list(dict.fromkeys(name for row in rows for name in row.validation))
    header = ["", *metrics, *(f"valid {name}" for name in watched), LEAD, *_COSTS]
    lines = [row.cells(metrics, watched) for row in rows]
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


def show_run(console: Console, results: Mapping[str, Any], *, verbose: bool = False) -> None:
    """Print the table and the verdict of one run; ``verbose``: those by items and users, too.

    A split with the numbers of an earlier one is a line: among all items, those whose impressions
    differ only in their negatives ask the same.
    """
    label, shown = results["model"], dict[str, list[Cells]]()
    for split, found in results.get("splits", {}).items():
        baselines = results.get("baselines", {}).get(split, {})
        verdict = results.get("verdict", {}).get(split)
        row = model_row(label, [results], split)
        if verdict is not None:
            row = replace(row, lead=verdict["lead"])
        rows = in_order(baseline_rows(baselines), [row])
        groups = found["counts"][ALL].get("groups", 0)
        title = f"{results['data']} · {split} · {groups:,} groups"
        subsets = subset_rows(baselines, {label: [results]}, split)
        tables = split_tables(title, rows, subsets)
        if twin := twin_of(shown, split, tables):
            console.print(f"{title}: the numbers of {twin}\n", markup=False, soft_wrap=True)
            continue
        show_split(console, tables, verdict, verbose=verbose)
    show_short_trainings(console, {label: results.get("training", {})})


def show_short_trainings(console: Console, trainings: Mapping[str, Mapping[str, Any]]) -> None:
    """Warn of models that saw less than one pass of their training rows.

    Args:
        console: to print on.
        trainings: by row ``training`` of its ``results.json``.
    """
    for text in short_trainings(trainings):
        for line in wrap(f"warning: {text}", SCREEN):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        console.print()


def twin_of(shown: dict[str, list[Cells]], split: str, tables: Mapping[str, Cells]) -> str:
    """The earlier split with the same numbers, costs aside; "" where there is none.

    Args:
        shown: by earlier split its tables without costs; a split without a twin is added.
        split: that is to be shown.
        tables: of it.
    """
    cells = [without_costs(table) for table in tables.values()]
    for name, others in shown.items():
        if others == cells:
            return name
    shown[split] = cells
    return ""


def without_costs(cells: Cells) -> Cells:
    """A table without its seconds, memory and parameters."""
    kept = [place for place, name in enumerate(cells[0]) if name not in _COSTS]
    return [[line[place] for place in kept] for line in cells]


def show_split(
    console: Console,
    tables: Mapping[str, Cells],
    verdict: Mapping[str, Any] | None,
    marks: str = "",
    *,
    verbose: bool,
) -> None:
    """Print the first table of a split, the others where it is ``verbose``; legend and verdict."""
    for number, (name, cells) in enumerate(tables.items()):
        if number == 0 or verbose:
            print_table(console, name, cells if verbose else narrow(cells))
            if number == 0 and marks:
                console.print(marks, markup=False, highlight=False, soft_wrap=True)
            console.print()
    if verdict is not None:
        for text in verdict_lines(verdict):
            for line in wrap(text, SCREEN):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
        console.print()


def narrow(cells: Cells) -> Cells:
    """A table without metrics beyond accuracy and without most costs, for a terminal."""
    kept = [
        place
        for place, name in enumerate(cells[0])
        if name not in _LEFT_OUT and not (name[-1:].isdecimal() and is_beyond_accuracy(name))
    ]
    return [[line[place] for place in kept] for line in cells]


def verdict_lines(verdict: Mapping[str, Any]) -> list[str]:
    """What a verdict says, a line each."""
    return [verdict["sentence"], verdict["negatives"], *verdict["advice"]]
