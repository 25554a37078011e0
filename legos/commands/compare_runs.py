"""``legos runs compare``: finished runs in one table, tested on the impressions that they share."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from legos.config.saved import read_description
from legos.config.yaml_files import shown
from legos.data.tables import Tables
from legos.errors import ConfigError, DataError, LegosError, nearest
from legos.evaluation.groups import read_groups
from legos.files import atomic_path
from legos.progress import PlainConsole
from legos.reports.rows import ResultRow
from legos.reports.significance import legend, tested_rows
from legos.reports.tables import (
    csv_table,
    csv_text,
    markdown_table,
    print_table,
    split_tables,
    twin_of,
)
from legos.runs.find import find_run
from legos.runs.folder import RunFolder
from legos.runs.past import PastRun

_FORMATS = (".md", ".csv", ".json")
_IMPRESSIONS = ("user_id", "candidates", "labels")
_SAME = ("data.group_by", "exp.evaluate.ranking", "exp.evaluate.exclude")
"""Settings that two measurements must share to be comparable."""


@dataclass(frozen=True)
class Compared:
    """The table of one split.

    Attributes:
        rows: one per run, with marks, p-values and improvements over the first.
        groups: impressions (or users) that the tests are over.
    """

    rows: list[ResultRow]
    groups: int


def compare_runs(named: Sequence[str], *, split: str | None, output: Path | None) -> None:
    """Print the tables of several runs, each tested against the first.

    Args:
        named: two or more, see :func:`legos.runs.find.find_run`.
        split: a test split; None: all shared test splits.
        output: also write the tables to this file (.md, .csv or .json).

    Raises:
        ConfigError: fewer than two runs, or an unknown output format.
        DataError: a run is not finished, or the runs were tested on different impressions.
    """
    if output is not None and output.suffix not in _FORMATS:
        raise ConfigError(f"--output {output}: expected a name that ends in {', '.join(_FORMATS)}")
    runs = [PastRun(folder) for folder in map(find_run, named)]
    counts = Counter(run.folder.resolve() for run in runs)
    twice = [shown(folder) for folder, count in counts.items() if count > 1]
    if twice:
        raise ConfigError(f"{', '.join(twice)}: given twice")
    if len(runs) < 2:
        raise ConfigError("compare: give two runs or more, the reference first")
    splits = _shared_splits(runs, split)
    for each in splits:
        for run in runs[1:]:
            _refuse_other_impressions(runs[0], run, each)
    found = {each: _compared(runs, each) for each in splits}
    _print(runs, found)
    if output is not None:
        with atomic_path(output) as path:
            path.write_text(_TEXTS[output.suffix](runs, found), encoding="utf-8")
        print(f"written to {output}")


def _shared_splits(runs: Sequence[PastRun], wanted: str | None) -> list[str]:
    for run in runs:
        if not run.metrics:
            test = f"`legos run --load {shown(run.folder)}` tests it"
            again = test if run.state == "trained" else "rerun the command that started it"
            raise DataError(
                f"{shown(run.folder)}: {run.state}, without test results to compare; {again}"
            )
    shared = [split for split in runs[0].metrics if all(split in run.metrics for run in runs)]
    if wanted is not None:
        if wanted not in shared:
            hint = nearest(wanted, shared) if shared else "they share no split"
            raise DataError(f"--split {wanted}: not measured in all of these runs; {hint}")
        return [wanted]
    if not shared:
        each = "; ".join(f"{shown(run.folder)}: {', '.join(run.metrics)}" for run in runs)
        raise DataError(f"the runs have no test split in common ({each})")
    return shared


def _refuse_other_impressions(first: PastRun, other: PastRun, split: str) -> None:
    """Raise DataError with all differences if two runs were tested on different impressions."""
    differ = []
    mine, theirs = (_measured(run) for run in (first, other))
    for key in _SAME:
        if mine.get(key) != theirs.get(key):
            differ.append(f"{key} is {mine.get(key)} and {theirs.get(key)}")
    cure = f"; {_measure_alike(first, other)}" if differ else ""
    if first.results.get("fingerprint") != other.results.get("fingerprint"):
        differ += _other_tables(first, other, split)
    if differ:
        raise DataError(
            f"{shown(first.folder)} and {shown(other.folder)} were not measured on the same "
            f"impressions of {split}: {'; '.join(differ)}{cure}"
        )


def _measure_alike(first: PastRun, other: PastRun) -> str:
    """Return the command that measures one run like the other, ranking all items if either did."""
    again, like = (first, other)
    if _measured(like).get("exp.evaluate.ranking") != "all":
        again, like = (other, first)
    asked = {key: _measured(like).get(key) for key in _SAME}
    options = [
        f"--{key} {value}"
        for key, value in asked.items()
        if value is not None and value != _measured(again).get(key)
    ]
    metrics = ", ".join(_measured(like).get("exp.evaluate.metrics", []))
    if metrics:
        options.append(f"--exp.evaluate.metrics '[{metrics}]'")
    command = f"legos run --load {shown(again.folder)} {' '.join(options)}"
    return f"`{command}` makes them comparable"


def _measured(run: PastRun) -> Mapping[str, Any]:
    """The settings of the measurement that a run shows."""
    known = run.results.get("measurements", {}).get(run.results.get("measurement"), {})
    found: Mapping[str, Any] = known.get("settings", {})
    return found


def _other_tables(first: PastRun, other: PastRun, split: str) -> list[str]:
    """What differs in the impressions of two tables; nothing where they are the same."""
    contents = []
    for run in (first, other):
        folder = Path(str(read_description(run.folder).sections["data"]["folder"]))
        try:
            tables = Tables.load(folder)
        except LegosError as error:
            return [f"their tables differ, and those of {shown(run.folder)} are not here: {error}"]
        if tables.fingerprint != run.results.get("fingerprint"):
            return [f"their tables differ, and {folder} has changed since {shown(run.folder)}"]
        paths = {name: Path(name) for name in tables.manifest["files"]}
        contents.append(
            {
                path.name: tables.manifest["files"][name]["sha256"]
                for name, path in paths.items()
                if path.parent.name == split and path.name.split(".")[0] in _IMPRESSIONS
            }
        )
    mine, theirs = contents
    keys = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
    return [f"data {first.data} and {other.data} have other {', '.join(keys)}"] if keys else []


def _compared(runs: Sequence[PastRun], split: str) -> Compared:
    labels = _labels(runs)
    values = {
        label: read_groups(
            [RunFolder(run.folder).diagnostics(run.results.get("measurement", ""), split)]
        )
        for label, run in zip(labels, runs, strict=True)
    }
    sizes = {label: {len(each) for each in found.values()} for label, found in values.items()}
    if any(found != sizes[labels[0]] or len(found) != 1 for found in sizes.values()):
        told = ", ".join(f"{label} {sorted(found) or 'none'}" for label, found in sizes.items())
        raise DataError(f"{split}: the runs have other numbers of groups: {told}")
    shared = set.intersection(*(set(each) for each in values.values()))
    values = {
        label: {metric: each for metric, each in found.items() if metric in shared}
        for label, found in values.items()
    }
    references = dict.fromkeys(labels[1:], labels[0])
    results = {label: [run.results] for label, run in zip(labels, runs, strict=True)}
    return Compared(tested_rows(values, results, references, split), sizes[labels[0]].pop())


def _labels(runs: Sequence[PastRun]) -> list[str]:
    """A name for each run: of the model, with what tells it from its namesakes."""
    found = []
    for run in runs:
        namesakes = [each for each in runs if each.model == run.model]
        seeds = {each.seed for each in namesakes}
        if len(namesakes) == 1:
            found.append(run.model)
        elif len(seeds) == len(namesakes):
            found.append(f"{run.model} seed {run.seed}")
        else:
            found.append(f"{run.model} {run.id[:6]}")
    return found


def _tables(
    runs: Sequence[PastRun], found: Mapping[str, Compared]
) -> dict[str, dict[str, list[list[str]]]]:
    """By split and title."""
    return {
        split: split_tables(f"{runs[0].data} · {split} · {each.groups:,} groups", each.rows, [])
        for split, each in found.items()
    }


def _print(runs: Sequence[PastRun], found: Mapping[str, Compared]) -> None:
    console, shown = PlainConsole(), dict[str, list[list[list[str]]]]()
    for split, tables in _tables(runs, found).items():
        if twin := twin_of(shown, split, tables):
            console.print(f"{next(iter(tables))}: the numbers of {twin}\n", markup=False)
            continue
        for title, cells in tables.items():
            print_table(console, title, cells)
            console.print()
    if marks := _legend(found):
        print(marks)


def _markdown(runs: Sequence[PastRun], found: Mapping[str, Compared]) -> str:
    text = [
        f"### {title}\n\n{markdown_table(cells)}"
        for tables in _tables(runs, found).values()
        for title, cells in tables.items()
    ]
    named = [f"- {label}: `{run.folder}`" for label, run in zip(_labels(runs), runs, strict=True)]
    marks = [f"{marks}\n"] if (marks := _legend(found)) else []
    return "\n".join([*text, *marks, *named, ""])


def _legend(found: Mapping[str, Compared]) -> str:
    return legend([row for each in found.values() for row in each.rows])


def _csv(runs: Sequence[PastRun], found: Mapping[str, Compared]) -> str:
    return csv_text([line for split, each in found.items() for line in csv_table(each.rows, split)])


def _json(runs: Sequence[PastRun], found: Mapping[str, Compared]) -> str:
    said = {
        "runs": {label: str(run.folder) for label, run in zip(_labels(runs), runs, strict=True)},
        "splits": {
            split: {"groups": each.groups, "rows": [vars(row) for row in each.rows]}
            for split, each in found.items()
        },
    }
    return json.dumps(said, indent=2, ensure_ascii=False) + "\n"


_TEXTS = {".md": _markdown, ".csv": _csv, ".json": _json}
