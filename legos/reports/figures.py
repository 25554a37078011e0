"""Figures of the report as inline SVG, readable on a light and on a dark page."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from legos.config.comparison import Curve
from legos.files import atomic_path
from legos.metrics.names import is_beyond_accuracy
from legos.reports.rows import ResultRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_INK = "#0a0b0c"  # stands for the page's own text colour and becomes currentColor
_BINS = 15  # of the calibration curve
STYLE: Any = {
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK
    ),
    "grid.color": _INK,
    "grid.alpha": 0.15,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.frameon": False,
    "text.parse_math": False,  # a name with dollar signs is no formula
    "svg.fonttype": "none",  # text stays text: small and searchable
    "svg.hashsalt": "legos",  # the same figure gives the same bytes
}


def loss_curve(steps: Sequence[Mapping[str, Any]], epochs: Sequence[Mapping[str, Any]]) -> str:
    """Training loss of logged steps and its mean over every epoch."""

    def draw(axes: Axes) -> None:
        axes.plot(_column(steps, "step"), _column(steps, "loss"), alpha=0.45, label="step")
        means = _column(epochs, "train_loss")
        axes.plot(_column(epochs, "step"), means, "o-", label="mean of the epoch")
        axes.set(xlabel="step", ylabel="loss")
        axes.legend()

    return svg("Training loss", draw)


def validation_curve(
    epochs: Sequence[Mapping[str, Any]], metrics: Sequence[str], best: int | None
) -> str:
    """Validation metrics over the epochs; a dashed line at the ``best`` epoch."""
    from matplotlib.ticker import MaxNLocator

    def draw(axes: Axes) -> None:
        for metric in metrics:
            known = [record for record in epochs if metric in record["metrics"]]
            values = [record["metrics"][metric] for record in known]
            axes.plot(_column(known, "epoch"), values, "o-", markersize=4, label=plain(metric))
        if best is not None:
            axes.axvline(best, color=_INK, linestyle="--", linewidth=1, label="best epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="epoch")
        axes.legend(fontsize="small")

    return svg("Validation metrics", draw)


def observed_curve(title: str, lines: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Numbers over the epochs, a line a name; a logarithmic axis where they span decades."""
    from matplotlib.ticker import MaxNLocator

    def draw(axes: Axes) -> None:
        for name, points in lines.items():
            axes.plot(*zip(*points, strict=True), "o-", markersize=4, label=plain(name))
        values = [value for points in lines.values() for _, value in points]
        if min(values) > 0 and max(values) / min(values) >= _DECADES:
            axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="epoch")
        axes.legend(fontsize="small")

    return svg(title.capitalize(), draw)


def compared_curves(metric: str, epochs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """One validation metric over the epochs of several models, by name."""
    from matplotlib.ticker import MaxNLocator

    def draw(axes: Axes) -> None:
        for name, records in epochs.items():
            known = [record for record in records if metric in record["metrics"]]
            values = [record["metrics"][metric] for record in known]
            axes.plot(_column(known, "epoch"), values, "o-", markersize=4, label=plain(name))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="epoch")
        axes.legend(fontsize="small")

    return svg(f"Validation {metric}", draw)


def score_distributions(scores: np.ndarray, labels: np.ndarray) -> str:
    """Histograms of the scores ``(M,)`` with label 1 and 0; the outermost 0.1 % are cut off."""

    def draw(axes: Axes) -> None:
        low, high = np.quantile(scores.astype(np.float64), (0.001, 0.999)).tolist()
        edges = np.linspace(low, high, 61)
        for label, name in ((0, "not clicked"), (1, "clicked")):
            inside = scores[(labels == label) & (scores >= low) & (scores <= high)]
            if len(inside) and low < high:
                axes.hist(inside, edges.tolist(), density=True, alpha=0.55, label=name)
        axes.set(xlabel="score", ylabel="density")
        if axes.patches:
            axes.legend()

    return svg("Scores of clicked and other candidates", draw)


def calibration_curve(scores: np.ndarray, labels: np.ndarray) -> str:
    """Reliability diagram of the scores ``(M,)`` as logits."""
    predicted, clicked, error = reliability(scores, labels)

    def draw(axes: Axes) -> None:
        top = 1.05 * max(float(predicted.max(initial=0)), float(clicked.max(initial=0)), 0.01)
        axes.plot([0, top], [0, top], color=_INK, linewidth=1, linestyle="--", label="calibrated")
        axes.plot(predicted, clicked, "o-", label="this model")
        axes.set(xlabel="predicted probability", ylabel="share clicked")
        axes.legend(loc="upper left")

    return svg(f"Calibration: expected error {error:.3f}", draw)


def subset_bars(metric: str, subsets: Sequence[str], methods: Mapping[str, Sequence[float]]) -> str:
    """A bar a method in every subset.

    Args:
        metric: what the bars show.
        subsets: names.
        methods: by name a value a subset, NaN where undefined.
    """

    def draw(axes: Axes) -> None:
        places, width = np.arange(len(subsets)), 0.8 / len(methods)
        for number, (name, values) in enumerate(methods.items()):
            shift = (number - (len(methods) - 1) / 2) * width
            axes.bar(places + shift, values, 0.92 * width, label=plain(name))
        axes.set_xticks(places, [plain(subset) for subset in subsets])
        axes.set(ylabel=plain(metric))
        axes.grid(visible=False, axis="x")
        axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))

    return svg(f"{metric} by items and users", draw, width=9.5)


def reliability(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Predicted and real click rate in bins of equal count, and the expected calibration error.

    Naeini, Cooper and Hauskrecht, AAAI 2015. A model trained to rank is not meant to be
    calibrated; the curve shows how far its scores are from probabilities.

    Args:
        scores: ``(M,)`` logits.
        labels: ``(M,)`` 0 or 1.

    Returns:
        mean predicted probability ``(bins,)``, share clicked ``(bins,)``, and the mean of their
        absolute difference weighted by the rows of a bin.
    """
    predicted = 1 / (1 + np.exp(-np.clip(scores.astype(np.float64), -60, 60)))
    parts = [part for part in np.array_split(np.argsort(predicted), _BINS) if len(part)]
    centre = np.array([predicted[part].mean() for part in parts])
    clicked = np.array([labels[part].mean() for part in parts])
    weight = np.array([len(part) for part in parts]) / max(1, len(scores))
    return centre, clicked, float((weight * np.abs(centre - clicked)).sum())


def _column(records: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [record.get(name, float("nan")) for record in records]


def plain(text: str) -> str:
    """Text that a legend does not hide: matplotlib takes a leading underscore for private."""
    return text.lstrip("_")


def svg(title: str, draw: Callable[[Axes], None], width: float = 5.5) -> str:
    """Run ``draw(axes)`` and return the figure as an ``<svg>`` element."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with rc_context(STYLE):
        figure = Figure(figsize=(width, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.set_title(plain(title), fontsize="medium", loc="left")
        draw(axes)
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
    text = buffer.getvalue()
    element = text[text.index("<svg") :].replace(_INK, "currentColor")
    return element.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)


ON_PAPER: Any = {"figure.facecolor": "white", "savefig.facecolor": "white"}
_DECADES = 100.0  # largest over smallest number from which on an axis is logarithmic
_PANEL = 4.2, 3.4  # inches
DASHES = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))


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
    with rc_context({**STYLE, **ON_PAPER}):
        width, height = _PANEL
        figure = Figure(figsize=(width * len(metrics), height), layout="constrained")
        panels = figure.subplots(1, len(metrics), squeeze=False)[0]
        for axes, metric in zip(panels, metrics, strict=True):
            draw_metric(axes, metric, points, others)
            axes.set(xlabel=curve.key, title=metric)
        handles, labels = panels[0].get_legend_handles_labels()
        if labels:
            figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small")
        return write_figure(figure, folder / f"curve-{split}")


def write_figure(figure: Figure, stem: Path) -> list[Path]:
    """The same bytes for the same figure, as SVG and as PNG."""
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("svg", "png")]
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
                linestyle=DASHES[index % len(DASHES)],
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
