"""``report.html`` of a comparison: its tables, verdicts, curves and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from legos.reports import figures as plots
from legos.reports.curves import read_metrics
from legos.reports.examples import read_examples
from legos.reports.page import write_page
from legos.reports.tables import Cells, narrow
from legos.runs.passes import short_trainings, trainings_in
from legos.runs.tracking import METRICS_FILE


@dataclass(frozen=True)
class ComparedSplit:
    """What the report of a comparison says of one split.

    Attributes:
        name: of the split.
        models: the rows that are no baselines.
        tables: by title, the main one first; header and rows as text.
        verdict: on the best row.
        costs: quality over CPU seconds as an SVG element; empty without any.
    """

    name: str
    models: Sequence[str]
    tables: Mapping[str, Cells]
    verdict: Mapping[str, Any] | None
    costs: str = ""


def write_comparison(
    folder: Path, data: str, splits: Sequence[ComparedSplit], runs: Mapping[str, Path]
) -> Path:
    """Write the report of a comparison.

    Args:
        folder: of the comparison.
        data: name of the data set.
        splits: what is said of each.
        runs: by row the folder of its first run; what the best row recommends is shown.

    Returns:
        Path of ``report.html``.
    """
    verdicts = {split.name: split.verdict for split in splits if split.verdict is not None}
    best = str(next((each["model"] for each in verdicts.values()), next(iter(runs))))
    curves = {label: read_metrics(path / METRICS_FILE) for label, path in runs.items()}
    epochs = {
        label: [record for record in records if record["kind"] == "valid"]
        for label, records in curves.items()
    }
    metrics = [name for each in epochs.values() for record in each for name in record["metrics"]]
    judged = [str(each["metric"]) for each in verdicts.values()]
    drawn = next(iter([*judged, *metrics]), "")
    page: dict[str, Any] = {
        "title": f"{len(runs)} models on {data}",
        "subtitle": f"comparison {folder.name}: " + ", ".join(map(str, runs.values())),
        "verdicts": [{"split": name, **each} for name, each in verdicts.items()],
        "warnings": short_trainings(trainings_in(runs)),
        "honesty": None,
        "facts": {},
        "splits": [_compared_split(split) for split in splits],
        "curves": [
            *([plots.compared_curves(drawn, epochs)] if metrics else []),
            *(split.costs for split in splits if split.costs),
        ],
        "readers": read_examples(runs[best]),
        "of": best,
        "config": {},
        "versions": {},
    }
    return write_page(folder, page)


def _compared_split(split: ComparedSplit) -> dict[str, Any]:
    def table(name: str, cells: Cells) -> dict[str, Any]:
        header, *lines = cells
        rows = {line[0]: [(text, False) for text in line[1:]] for line in lines}
        return {"name": name, "metrics": header[1:], "rows": rows}

    whole = next(iter(split.tables.values()))
    return {
        "name": split.name,
        "models": set(split.models),
        "counts": {},
        "main": table("", narrow(whole)),
        "tables": [table(name, cells) for name, cells in split.tables.items()],
        "figures": [],
        "calibrated": False,
    }
