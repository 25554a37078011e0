"""``report.html``: one run in one self-contained page, tables and plots inside."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from legos.files import write_text
from legos.metrics import parse_metric
from legos.run.baselines import BASELINES, ORACLE
from legos.run.measure import ALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TEMPLATE = "report.html.jinja"
_BINS = 15  # of the calibration curve


def write_report(folder: Path) -> Path:
    """Write the report of a run folder from the files that lie in it.

    Args:
        folder: with ``results.json``, ``config.json``, ``versions.json``, ``metrics.jsonl`` and
            per test split ``diagnostics/<split>/{scores,labels}.npy``.

    Returns:
        Path of ``report.html``.
    """
    from jinja2 import Environment, PackageLoader

    results = _json(folder / "results.json")
    page = Environment(loader=PackageLoader("legos.run", "."), autoescape=True).get_template(
        _TEMPLATE
    )
    path = folder / "report.html"
    write_text(
        path,
        page.render(
            results=results,
            splits=[
                _split(folder, results, split, found) for split, found in results["splits"].items()
            ],
            curves=_curves(folder / "metrics.jsonl"),
            config=_readable(folder / "config.json"),
            versions=_readable(folder / "versions.json"),
        ),
    )
    return path


def _split(
    folder: Path, results: Mapping[str, Any], split: str, found: Mapping[str, Any]
) -> dict[str, Any]:
    metrics = list(found["rows"][ALL])
    baselines = results.get("baselines", {}).get(split, {})
    methods = [(BASELINES[name][0], each["rows"][ALL], name) for name, each in baselines.items()]
    methods.append((results["model"], found["rows"][ALL], ""))
    rivals = [values for _, values, name in methods if name != ORACLE]
    best = {metric: _best(metric, [values.get(metric) for values in rivals]) for metric in metrics}
    scores = _array(folder / "diagnostics" / split / "scores.npy")
    labels = _array(folder / "diagnostics" / split / "labels.npy")
    return {
        "name": split,
        "counts": found["counts"][ALL],
        "metrics": metrics,
        "rows": [
            {"name": title, "is_model": not name, "cells": _cells(metrics, values, best)}
            for title, values, name in methods
        ],
        "subsets": [
            {"name": subset, "cells": _cells(metrics, values, {})}
            for subset, values in found["rows"].items()
            if subset != ALL
        ],
        "plots": [] if scores is None or labels is None else _score_plots(scores, labels),
    }


def _best(metric: str, values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    if metric.split("@")[0] in ("novelty", "coverage", "diversity") or not known:
        return None  # more is not better
    return max(known) if parse_metric(metric).maximize else min(known)


def _cells(
    metrics: Sequence[str], values: Mapping[str, float], best: Mapping[str, float | None]
) -> list[dict[str, Any]]:
    return [
        {
            "text": f"{values[metric]:.4f}" if metric in values else "–",
            "best": metric in values and values[metric] == best.get(metric),
        }
        for metric in metrics
    ]


def _score_plots(scores: np.ndarray, labels: np.ndarray) -> list[str]:
    """Distributions of clicked and other scores, and the calibration of the scores as logits."""

    def distributions(axes: Axes) -> None:
        edges = np.histogram_bin_edges(scores, bins=60).tolist()
        for label, name in ((0, "not clicked"), (1, "clicked")):
            axes.hist(scores[labels == label], edges, density=True, alpha=0.55, label=name)
        axes.set(title="Scores", xlabel="score", ylabel="density")
        axes.legend()

    def calibration(axes: Axes) -> None:
        centre, clicked, error = reliability(scores, labels)
        axes.plot([0, 1], [0, 1], color="grey", linewidth=1)
        axes.plot(centre, clicked, marker="o")
        axes.set(
            title=f"Calibration: expected error {error:.3f}",
            xlabel="predicted probability",
            ylabel="share clicked",
        )

    return [_svg(distributions), _svg(calibration)]


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


def _curves(path: Path) -> str:
    """Training loss and validation metrics over the steps; nothing when there are none."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    records = [json.loads(line) for line in lines]
    steps = [record for record in records if record.get("kind") == "train"]
    epochs = [record for record in records if record.get("kind") == "valid"]
    if not epochs and not steps:
        return ""

    def draw(axes: Axes) -> None:
        axes.plot([r["step"] for r in steps], [r["loss"] for r in steps], alpha=0.4, label="loss")
        axes.set(title="Training", xlabel="step", ylabel="loss")
        other = axes.twinx()
        for metric in [name for name in ("GAUC", "nDCG@10") if epochs and name in _last(epochs)]:
            values = [record["metrics"][metric] for record in epochs]
            other.plot([record["step"] for record in epochs], values, marker="o", label=metric)
        other.set_ylabel("validation")
        other.legend(loc="lower right")

    return _svg(draw, width=9.0)


def _last(records: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    metrics: Mapping[str, Any] = records[-1]["metrics"]
    return metrics


def _svg(draw: Any, width: float = 5.5) -> str:
    """Run ``draw(axes)`` and return the figure as inline SVG."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 3.4), layout="constrained")
    draw(figure.subplots())
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _array(path: Path) -> np.ndarray | None:
    return np.load(path, allow_pickle=False) if path.is_file() else None


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _readable(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else "not recorded"
