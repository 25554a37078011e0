"""Quality over the CPU seconds of training: a point a row, and the front of those that pay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from legos.metrics.names import is_beyond_accuracy
from legos.reports.figures import DASHES, ON_PAPER, STYLE, plain, svg, write_figure
from legos.reports.rows import ResultRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def costs_figure(rows: Sequence[ResultRow]) -> str:
    """:func:`draw_costs` for a page; empty where there is nothing to draw."""
    metric = _timed_metric(rows)
    if metric is None:
        return ""
    title = f"{metric} over CPU seconds of training"
    return svg(title, lambda axes: draw_costs(axes, metric, rows), width=9.5)


def write_costs(folder: Path, split: str, rows: Sequence[ResultRow]) -> list[Path]:
    """Draw the first accuracy metric over the CPU seconds of training into ``costs-<split>.*``.

    Args:
        folder: of the comparison.
        split: that was measured.
        rows: of the split's table.

    Returns:
        the SVG and the PNG; nothing where fewer than two rows were timed.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    metric = _timed_metric(rows)
    if metric is None:
        return []
    with rc_context({**STYLE, **ON_PAPER}):
        figure = Figure(figsize=(8.5, 5.5), layout="constrained")
        draw_costs(figure.subplots(), metric, rows)
        return write_figure(figure, folder / f"costs-{split}")


def _timed_metric(rows: Sequence[ResultRow]) -> str | None:
    """What timed rows were chosen by, else their first accuracy metric; None below two of them."""
    timed = [row for row in rows if row.cpu_seconds]
    if len(timed) < 2:
        return None
    names = [*(name for row in timed for name in row.validation), *timed[0].metrics]
    known = (name for name in names if name in timed[0].metrics)
    return next((name for name in known if not is_beyond_accuracy(name)), None)


def draw_costs(axes: Axes, metric: str, rows: Sequence[ResultRow]) -> None:
    """A point a row whose training was timed, other rows as level lines, the front joined.

    Args:
        axes: an empty panel.
        metric: that is drawn; a bar is a standard deviation over seeds.
        rows: of a table.
    """
    from matplotlib.ticker import NullFormatter

    timed = [row for row in rows if row.cpu_seconds and metric in row.metrics]
    points = [(row.cpu_seconds or 0.0, row.metrics[metric]) for row in timed]
    axes.set_xscale("log")
    for (seconds, value), row in zip(points, timed, strict=True):
        bar = row.deviations.get(metric, 0.0)
        axes.errorbar([seconds], [value], yerr=[bar], fmt="o", color="C0", markersize=4)
    axes.plot(*zip(*cost_front(points), strict=True), color="C1", zorder=0, label="front")
    others = [row for row in rows if not row.cpu_seconds and metric in row.metrics]
    for index, row in enumerate(others):
        style: Any = {"color": f"C{2 + index % 8}", "linestyle": DASHES[index % len(DASHES)]}
        axes.axhline(row.metrics[metric], label=plain(row.name), **style)
    axes.margins(0.12)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="CPU seconds of training, validation included", ylabel=metric)
    axes.legend(fontsize="small", loc="lower right")
    shown = axes.transData.transform(points)
    names = [plain(row.name) for row in timed]
    for name, point, (x, y) in zip(names, points, free_places(names, shown), strict=True):
        axes.annotate(name, point, (x, y), textcoords="offset points", fontsize="small")


_LETTER, _LINE = 5.5, 11.0  # points of a small label


def free_places(names: Sequence[str], points: np.ndarray) -> list[tuple[float, float]]:
    """Where labels stand beside their points, so that none covers another: moved up as needed.

    Args:
        names: N labels.
        points: ``(N, 2)`` in points of the figure.

    Returns:
        N offsets from the points.
    """
    found: list[tuple[float, float]] = [(4.0, 2.0)] * len(names)
    taken: list[tuple[float, float, float]] = []  # left, right, bottom
    for index in np.lexsort((points[:, 0], points[:, 1])).tolist():
        left, bottom = points[index] + (4.0, 2.0)
        right = left + _LETTER * len(names[index])
        for other_left, other_right, other in sorted(taken, key=lambda each: each[2]):
            if left < other_right and other_left < right and abs(bottom - other) < _LINE:
                bottom = other + _LINE
        taken.append((left, right, bottom))
        found[index] = (4.0, float(bottom - points[index, 1]))
    return found


def cost_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of points (cost, value) those that none reaches or passes at less cost, by cost."""
    front: list[tuple[float, float]] = []
    for cost, value in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or value > front[-1][1]:
            front.append((cost, value))
    return front
