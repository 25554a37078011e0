"""Results tables: one row a method, on the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from textwrap import wrap
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from legos.baselines.base import ORACLE, baseline_title
from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.lm.adapt import trained_part
from legos.lm.footprint import Counted, Footprint, Way
from legos.metrics.beyond import ALL
from legos.metrics.names import is_beyond_accuracy, larger_is_better
from legos.terminal import shown_bytes
from legos.workplace.language_facts import TRAINED, language_rows

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
        p_values: per metric, of the paired t-test against the reference, Holm-corrected.
        validation: the watched metric of the best epoch on the valid split, mean over seeds.
        lead: of its verdict, the difference to the best baseline.
        cpu_seconds: CPU time of the whole training with its validation, of the main process.
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
    p_values: dict[str, float] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)
    lead: str = ""
    cpu_seconds: float | None = None

    def cells(self, metrics: Sequence[str], watched: Sequence[str]) -> list[str]:
        """The row as text: name, metrics, ``watched`` ones of the valid split, lead, costs."""
        valid = [_short(self.validation.get(name), 4) for name in watched]
        costs = [
            "" if self.parameters is None else f"{self.parameters:,}",
            _short(self.epoch_seconds, 1),
            _short(self.cpu_seconds, 1),
            _short(self.test_seconds, 1),
            _short(self.memory, 0),
        ]
        return [self.name, *map(self._metric, metrics), *valid, self.lead, *costs]

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


def _short(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


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
        cpu_seconds=_mean([each["cpu_seconds"] for each in trained if each.get("cpu_seconds")]),
        test_seconds=_mean([each["seconds"] for each in measured]),
        memory=_mean([each["peak_memory_mb"]["process"] for each in trained]),
        validation={
            name: float(np.mean(each))
            for name, each in _shared(
                [{each["metric"]: each["best"]} for each in trained if "metric" in each] or [{}]
            ).items()
        },
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


def _shared(runs: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Per metric its values; a metric that is undefined in one run is left out."""
    return {
        name: [run[name] for run in runs] for name in runs[0] if all(name in run for run in runs)
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


_WAYS: tuple[Way, ...] = ("DDP", "FSDP")


class Part(NamedTuple):
    """Parameters of one part of a model.

    Attributes:
        name: of the part.
        trained: numbers that training changes.
        frozen: numbers that it does not.
        bytes: in which they lie.
    """

    name: str
    trained: int
    frozen: int
    bytes: int

    @classmethod
    def of(cls, name: str, found: Iterable[Counted]) -> Part:
        """What parameters add up to."""
        known = list(found)
        trained = sum(each.numbers for each in known if each.parameter.requires_grad)
        numbers = sum(each.numbers for each in known)
        return cls(name, trained, numbers - trained, sum(each.bytes for each in known))


def parameters_table(title: str, parts: Sequence[Part]) -> Table:
    """A line for each part and one for all."""
    table = titled_table(title, "part", "trained", "frozen", "weights")
    whole = [sum(sizes) for sizes in zip(*(part[1:] for part in parts), strict=True)]
    for part in (*parts, Part("all", *whole)):
        table.add_row(part.name, *counts(part.trained, part.frozen), shown_bytes(part.bytes))
    return table


def print_memory(
    console: Console, title: str, footprint: Footprint, processes: Sequence[int]
) -> None:
    """Print memory of a device, a line for each number of processes and way of sharing."""
    lines = [["processes", "parameters", "gradients", "optimizer", "activations", "all"]]
    lines[0] += ["activations checkpointed", "all"]
    for count in processes:
        for way in _WAYS[: 1 + footprint.shards] if count > 1 else (None,):
            needed = footprint.needed(count, way)
            shown = [f"{count} {way}" if way else f"{count}", *map(shown_bytes, needed[:3])]
            for activations in needed[3:]:
                known = "" if activations is not None else "more than "
                shown.append("?" if activations is None else shown_bytes(activations))
                shown.append(f"{known}{shown_bytes(sum(needed[:3]) + (activations or 0))}")
            lines.append(shown)
    print_table(console, f"\n{title}", lines)


def print_backbone(console: Console, model: Any, language: Any, parts: Sequence[Part]) -> None:
    """Print parameters of a system over a language model, and what of that is trained.

    Args:
        console: to print on.
        model: section of a system with a section ``backbone``.
        language: its language model.
        parts: the language model first.
    """
    console.print(parameters_table(f"{model.name} over {language.name}", list(parts)))
    own, layers = model.backbone, language.num_layers
    told = trained_part(own, kept=own.layers or layers, layers=layers, parameters=parts[0].trained)
    console.print(f"trained of {language.name}: {told}")


def print_read(console: Console, config: RunConfig, rows: Sequence[tuple[str, str]]) -> None:
    """Print what a system reads of its data."""
    table = titled_table(f"input of {config.model.system} from {config.data.name}", "", "")
    for name, text in rows:
        table.add_row(name, text)
    console.print(table)


def print_language(console: Console, config: RunConfig, tables: Tables | None) -> None:
    """Print what is known of the language model, where there is one."""
    rows = language_rows(config, tables)
    if rows:
        table = titled_table("language model", "what", "how much")
        for name, text in rows:
            if name != TRAINED:
                table.add_row(name, text)
        console.print(table)
    for name, text in rows:
        if name == TRAINED:  # in one line, which no table folds
            console.print(f"{name}: {text}")


def titled_table(title: str, *columns: str) -> Table:
    """An empty table with a headline; columns of numbers stand on the right."""
    title = f"\n{title}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        right = column in ("impressions", "candidates", "clicks", "entries", "length")
        right = right or column in ("tokens an item", "trained", "frozen", "weights", "in memory")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table


def counts(*numbers: int) -> list[str]:
    """Numbers with separators."""
    return [f"{number:,}" for number in numbers]
