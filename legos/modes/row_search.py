"""The rows of a comparison with the settings that a search on the valid split finds for them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from accelerate import Accelerator
from rich.console import Console

from legos.config.load import load_over
from legos.config.schema import ComparedRow, RunConfig
from legos.config.search_schema import SearchBudget, SearchConfig, shown_value
from legos.data.tables import Tables
from legos.reports.search import Found, short_names
from legos.reports.tables import Cells
from legos.runs.folder import RunFolder


@dataclass(frozen=True)
class SearchedRow:
    """What a search found for a row.

    Attributes:
        folder: of the search.
        found: its trials.
        values: the best settings by dotted key.
    """

    folder: RunFolder
    found: Found
    values: Mapping[str, Any]

    def summary(self) -> dict[str, Any]:
        """What ``results.json`` of the comparison says of it."""
        return {"folder": str(self.folder.path), "values": dict(self.values), **self._shown()}

    def cells(self, label: str) -> list[str]:
        """Its line in :func:`search_cells`."""
        names = short_names(list(self.values))
        values = (f"{names[key]} {shown_value(each)}" for key, each in self.values.items())
        shown = self._shown()
        return [label, str(shown["trials"]), f"{shown['validation']:.4f}", ", ".join(values)]

    def _shown(self) -> dict[str, Any]:
        best = self.found.best
        validation = None if best is None else self.found.validation(best)
        return {"trials": len(self.found.trials), "validation": validation}


def search_row(
    row: ComparedRow,
    budget: SearchBudget,
    tables: Tables,
    accelerator: Accelerator,
    console: Console,
    *,
    verbose: bool,
) -> tuple[ComparedRow, SearchedRow]:
    """Search for a row's settings with its first seed; the row with the best of them.

    The best trial is the training of the row's first run, which is not repeated.

    Args:
        row: with ranges.
        budget: how long.
        tables: the data set.
        accelerator: device, precision and processes.
        console: where lines go.
        verbose: print lines of epochs, too.

    Raises:
        LegosError: no trial was trained to its end.
    """
    asked = SearchConfig(**budget.model_dump(), ranges=dict(row.ranges))

    def load(values: Mapping[str, Any]) -> RunConfig:
        return _in_mode(load_over(row.runs[0], values), "train")

    console.print(f"{row.label}: {asked.trials} trials", markup=False)
    from legos.modes.search import Searching  # needs optuna, which a comparison may do without

    searching = Searching(row.runs[0], load, asked, tables, accelerator, console, verbose)
    with searching.folder.lock() if accelerator.is_main_process else nullcontext():
        found, values = searching.run()
    runs = tuple(load_over(run, values) for run in row.runs)
    return replace(row, runs=runs), SearchedRow(searching.folder, found, values)


def search_cells(searches: Mapping[str, SearchedRow]) -> Cells:
    """A line a searched row: its trials, the best validation, the settings that had it."""
    if not searches:
        return []
    metric = next(iter(searches.values())).found.metric
    lines = [found.cells(label) for label, found in searches.items()]
    return [["", "trials", f"valid {metric}", "settings"], *lines]


def _in_mode(config: RunConfig, mode: str) -> RunConfig:
    return config.model_copy(update={"exp": config.exp.model_copy(update={"mode": mode})})
