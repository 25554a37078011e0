"""How surely rows of a table differ: paired tests, stars, and what the stars mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from legos.metrics.beyond import paired_p_values
from legos.reports.rows import ResultRow, model_row, with_improvement
from legos.reports.tables import LEAD
from legos.reports.verdict import SURE

LEVELS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


def tested_rows(
    values: Mapping[str, Mapping[str, np.ndarray]],
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    references: Mapping[str, str],
    split: str,
) -> list[ResultRow]:
    """Rows with the marks and p-values of :func:`significance` and improvements.

    Args:
        values: by row and metric the value in each group ``(G,)``.
        runs: by row the results of each seed.
        references: by row the row that it is tested against.
        split: that was measured.
    """
    tested = significance(values, references)
    rows = [
        replace(
            model_row(label, results, split),
            marks={metric: stars(p) for metric, p in tested[label].items()},
            p_values=tested[label],
        )
        for label, results in runs.items()
    ]
    return with_improvement(rows, references)


def significance(
    values: Mapping[str, Mapping[str, np.ndarray]], references: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """P-values of a paired t-test over groups, Holm-corrected over rows that share a reference.

    Args:
        values: by row and metric the value in each group ``(G,)``.
        references: by row the row that it is tested against; a row without one has no p-values.

    Returns:
        by row and metric.
    """
    found: dict[str, dict[str, float]] = {label: {} for label in values}
    for reference in dict.fromkeys(references.values()):
        family = [label for label, other in references.items() if other == reference]
        for metric, expected in values[reference].items():
            others = {label: values[label][metric] for label in family}
            for label, tested in paired_p_values(expected, others).items():
                found[label][metric] = tested["t_test_holm"]
    return found


def stars(p: float) -> str:
    """``*`` p < .05, ``**`` < .01, ``***`` < .001 or nothing."""
    return next((star for level, star in LEVELS if p < level), "")


def legend(rows: Sequence[ResultRow]) -> str:
    """What the stars of a table mean, in one line; "" where no row has one."""
    parts = []
    references = dict.fromkeys(row.reference for row in rows if any(row.marks.values()))
    if references:
        against = next(iter(references)) if len(references) == 1 else "the reference of the row"
        parts.append(
            f"{', '.join(f'{star} p < {_short(p)}' for p, star in reversed(LEVELS))}: paired "
            f"t-test over groups against {against}, Holm-corrected over the rows"
        )
    if any(row.lead.endswith("*") for row in rows):
        parts.append(f"{LEAD}: paired t-test against the best baseline, * p < {_short(SURE)}")
    return "; ".join(parts)


def _short(p: float) -> str:
    return f"{p:g}".removeprefix("0")
