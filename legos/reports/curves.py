"""A comparison over a number: metrics of the rows that differ in it, as SVG and PNG.

What does not lie on the curve, baselines among it, is a level line.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from legos.config.comparison import Curve
from legos.files import atomic_path
from legos.metrics.names import is_beyond_accuracy
from legos.reports.figures import STYLE
from legos.reports.tables import ResultRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ON_PAPER: Any = {"figure.facecolor": "white", "savefig.facecolor": "white"}
_DECADES = 100.0  # largest over smallest number from which on an axis is logarithmic
_PANEL = 4.2, 3.4  # inches
_DASHES = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))


def write_curves(folder: Path, curve: Curve, split: str, rows: Sequence[ResultRow]) -> list[Path]:
    """Draw a panel for each accuracy metric into ``curve-<split>.svg`` and ``.png``.

    Args:
        folder: of the comparison.
        curve: which rows lie on it, and where.
        split: that was measured.
        rows: of the split's table: mean, and deviation over seeds where there are several.

    Returns:
        the two files.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    named = {row.name: row for row in rows}
    points = [(number, named[label]) for label, number in curve.values.items()]
    others = [row for row in rows if row.name not in curve.values]
    metrics = [name for name in points[0][1].metrics if not is_beyond_accuracy(name)]
    paths = [folder / f"curve-{split}.{kind}" for kind in ("svg", "png")]
    with rc_context({**STYLE, **_ON_PAPER}):
        width, height = _PANEL
        figure = Figure(figsize=(width * len(metrics), height), layout="constrained")
        panels = figure.subplots(1, len(metrics), squeeze=False)[0]
        for axes, metric in zip(panels, metrics, strict=True):
            draw_metric(axes, metric, points, others)
            axes.set(xlabel=curve.key, title=metric)
        handles, labels = panels[0].get_legend_handles_labels()
        if labels:
            figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small")
        for path in paths:
            with atomic_path(path) as temporary:
                nothing = {"Date": None} if path.suffix == ".svg" else {"Software": None}
                figure.savefig(temporary, format=path.suffix[1:], metadata=nothing, dpi=150)
    return paths


def draw_metric(
    axes: Axes,
    metric: str,
    points: Sequence[tuple[float, ResultRow]],
    others: Sequence[ResultRow],
) -> None:
    """One metric over the number; a bar is a standard deviation over seeds.

    Args:
        axes: an empty panel.
        metric: that is drawn.
        points: number and row, ascending.
        others: rows that become level lines.
    """
    known = [(number, row) for number, row in points if metric in row.metrics]
    numbers = [number for number, _ in known]
    _scale(axes, sorted(set(numbers)))
    axes.errorbar(
        numbers,
        [row.metrics[metric] for _, row in known],
        yerr=[row.deviations.get(metric, 0.0) for _, row in known],
        fmt="o-",
        capsize=3,
    )
    for index, row in enumerate(others):
        if metric in row.metrics:
            axes.axhline(
                row.metrics[metric],
                color=f"C{1 + index % 9}",
                linestyle=_DASHES[index % len(_DASHES)],
                label=row.name.lstrip("_"),
            )


def _scale(axes: Axes, numbers: Sequence[float]) -> None:
    """A logarithmic axis where the numbers span decades, with a place for 0; a tick a number."""
    positive = [number for number in numbers if number > 0]
    spans = len(positive) > 1 and positive[-1] / positive[0] >= _DECADES
    if spans and numbers[0] > 0:
        axes.set_xscale("log")
    elif spans and numbers[0] == 0:
        axes.set_xscale("symlog", linthresh=positive[0], linscale=0.5)
    axes.set_xticks(list(numbers), [f"{number:g}" for number in numbers])
    axes.minorticks_off()
