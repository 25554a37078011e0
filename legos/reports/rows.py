"""Rows of results tables: one method on one split, its means over seeds and its improvement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from legos.baselines.base import ORACLE, baseline_title
from legos.metrics.beyond import ALL
from legos.metrics.names import larger_is_better


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
        valid = [_shown(self.validation.get(name), 4) for name in watched]
        costs = [
            "" if self.parameters is None else f"{self.parameters:,}",
            _shown(self.epoch_seconds, 1),
            _shown(self.cpu_seconds, 1),
            _shown(self.test_seconds, 1),
            _shown(self.memory, 0),
        ]
        return [self.name, *map(self._metric, metrics), *valid, self.lead, *costs]

    def _metric(self, name: str) -> str:
        if name not in self.metrics:
            return ""
        text = f"{self.metrics[name]:.4f}"
        if name in self.deviations:
            text += f" ± {self.deviations[name]:.4f}"
        return text + self.marks.get(name, "")


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


def _shared(runs: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Per metric its values; a metric that is undefined in one run is left out."""
    return {
        name: [run[name] for run in runs] for name in runs[0] if all(name in run for run in runs)
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _shown(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
