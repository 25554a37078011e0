"""``report.html``: one run in one self-contained page, tables and figures inside."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from legos.baselines.base import ORACLE, baseline_title
from legos.data.honesty import RULES, Honesty, read_honesty
from legos.data.ragged import Ragged
from legos.errors import DataError
from legos.files import atomic_path, write_text
from legos.metrics.beyond import ALL
from legos.metrics.names import is_beyond_accuracy, larger_is_better
from legos.records import Record, check_record, read_array, read_json, shown
from legos.reports import figures as plots
from legos.reports.curves import read_metrics, training_curves
from legos.reports.examples import read_examples
from legos.runs.folder import RunFolder
from legos.runs.passes import short_trainings
from legos.runs.tracking import METRICS_FILE

REPORT = "report.html"
Rows = Mapping[str, Mapping[str, float]]  # by subset: metrics by name


def write_report(folder: Path) -> Path:
    """Write the report of a run folder; returns its path, raises as :func:`page_of`."""
    return write_page(folder, page_of(folder))


def write_page(folder: Path, page: Mapping[str, Any]) -> Path:
    """Write ``report.html`` of a folder; returns its path."""
    path = folder / REPORT
    write_text(path, render(**page))
    return path


class _Training(Record):
    """Settings of the training, as far as the report reads them."""

    loss: str | None


class _Experiment(Record):
    """Settings of the experiment, as far as the report reads them."""

    train: _Training


class _Configuration(Record):
    """``config.json``, as far as the report reads it."""

    model: dict[str, Any] = Field(default_factory=dict)
    exp: _Experiment


def page_of(folder: Path) -> dict[str, Any]:
    """What the report of a run says, from the files that lie in its folder.

    Args:
        folder: with ``results.json`` and, as far as there are any, ``config.json``,
            ``versions.json``, ``metrics.jsonl`` and per test split
            ``diagnostics/<measurement>/<split>/{scores,labels}.npy``.

    Raises:
        DataError: a file is missing or cannot be read.
    """
    results = RunFolder(folder).results()
    if results is None:
        raise DataError(f"{folder}: no results.json; only tested runs have a report")
    model, config = f"{results['model']} (this run)", _json(folder / "config.json")
    if config:
        check_record(config, _Configuration, str(folder / "config.json"))
    return {
        "title": f"{results['model']} on {results['data']}",
        "subtitle": _subtitle(results),
        "verdicts": _verdicts(results),
        "warnings": short_trainings({results["model"]: results.get("training", {})}),
        "honesty": read_honesty(results),
        "facts": _facts(results),
        "splits": [
            _split(folder, results, name, model=model, calibrated=_is_calibrated(config))
            for name in results.get("splits", {})
        ],
        "curves": training_curves(
            read_metrics(folder / METRICS_FILE), results.get("training", {}).get("best_epoch")
        ),
        "readers": read_examples(folder),
        "of": "",
        "config": _flat(config),
        "versions": _json(folder / "versions.json"),
    }


def _subtitle(results: Mapping[str, Any]) -> str:
    parts = [f"run {results['run']}"]
    if "embed" in results:
        parts.append(f"token vectors: {results['embed']}")
    if results.get("trained_in", results["run"]) != results["run"]:
        parts.append(f"weights of run {results['trained_in']}")
    return " · ".join(parts)


def _verdicts(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = results.get("verdict", {})
    return [{"split": name, **found[name]} for name in results.get("splits", {}) if name in found]


def _is_calibrated(config: Mapping[str, Any]) -> bool:
    """Whether training asks for scores that are logits of a click."""
    train = config.get("exp", {}).get("train", {})
    is_bricks = config.get("model", {}).get("system", "bricks") == "bricks"
    return is_bricks and bool(train.get("loss") == "bce")


def honesty_page(name: str, honesty: Honesty) -> str:
    """The data-honesty report of a data set as a self-contained page."""
    return render(name=name, honesty=honesty)


def render(**values: Any) -> str:
    """A page of these values."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("legos.reports", "."), autoescape=True, undefined=StrictUndefined
    )
    return pages.get_template("page.html.jinja").render(rules=RULES, **values)


def _facts(results: Mapping[str, Any]) -> dict[str, str]:
    """What the run was and what it cost, for the top of the page."""
    training = results.get("training", {})
    found = {
        "seed": results.get("seed"),
        "trained parameters": results.get("parameters"),
        "training rows": training.get("rows"),
        "epochs": training.get("epochs"),
        "seconds per epoch": training.get("seconds_per_epoch"),
        "MiB while training": training.get("peak_memory_mb"),
        "MiB while testing": results.get("test_peak_memory_mb"),
    }
    if training.get("best") is not None:
        found[f"validation {training['metric']}, epoch {training['best_epoch']}"] = round(
            training["best"], 4
        )
    return {name: _number(value) for name, value in found.items() if value is not None}


def _number(value: Any) -> str:
    """``1,234.5``; the memory of process and device is joined."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_number(each)} ({name})" for name, each in value.items())
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _split(
    folder: Path, results: Mapping[str, Any], split: str, *, model: str, calibrated: bool
) -> dict[str, Any]:
    """Everything the page says about one test split."""
    found = results["splits"][split]
    baselines = results.get("baselines", {}).get(split, {})
    rivals: dict[str, Rows] = {
        baseline_title(name): each["rows"] for name, each in baselines.items() if name != ORACLE
    }
    rivals[model] = found["rows"]
    methods = dict(rivals)
    if ORACLE in baselines:  # what no model can pass stands below the model and out of competition
        methods[baseline_title(ORACLE)] = baselines[ORACLE]["rows"]
    metrics = list(found["rows"][ALL])
    tables = [
        {"name": _named(subset, found), "metrics": filled,
         "rows": _table(filled, methods, rivals, subset)}
        for subset in found["rows"]
        for filled in [_filled(metrics, methods, subset)]
    ]  # fmt: skip
    accurate = [name for name in _filled(metrics, methods, ALL) if not is_beyond_accuracy(name)]
    main = {"metrics": accurate, "rows": _table(accurate, methods, rivals, ALL)}
    return {
        "name": split,
        "models": {model},
        "counts": {name: _number(count) for name, count in found["counts"][ALL].items()},
        "main": main,
        "tables": tables,
        "calibrated": calibrated,
        "figures": _figures(
            folder / "diagnostics" / str(results.get("measurement", "")) / split,
            results,
            metrics,
            found,
            methods,
            calibrated=calibrated,
        ),
    }


def _named(subset: str, found: Mapping[str, Any]) -> str:
    groups = found["counts"].get(subset, {}).get("groups")
    return subset if groups is None else f"{subset} · {groups:,} groups"


def _filled(metrics: Sequence[str], methods: Mapping[str, Rows], subset: str) -> list[str]:
    """The metrics that some method has on a subset."""
    return [name for name in metrics if any(name in m.get(subset, {}) for m in methods.values())]


def _table(
    metrics: Sequence[str], methods: Mapping[str, Rows], rivals: Mapping[str, Rows], subset: str
) -> dict[str, list[tuple[str, bool]]]:
    """By method the text of every metric and whether it is the best of the ``rivals``."""
    best = {
        metric: _best(metric, [rows.get(subset, {}).get(metric) for rows in rivals.values()])
        for metric in metrics
    }
    return {
        name: [
            _cell(rows.get(subset, {}).get(metric), best[metric] if name in rivals else None)
            for metric in metrics
        ]
        for name, rows in methods.items()
    }


def _cell(value: float | None, best: float | None) -> tuple[str, bool]:
    return ("–", False) if value is None else (f"{value:.4f}", value == best)


def _best(metric: str, values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    rising = larger_is_better(metric)
    if rising is None or not known:
        return None
    return max(known) if rising else min(known)


def _figures(
    diagnostics: Path,
    results: Mapping[str, Any],
    metrics: Sequence[str],
    found: Mapping[str, Any],
    methods: Mapping[str, Rows],
    *,
    calibrated: bool,
) -> list[str]:
    """Bars of kinds of items and users, distributions of the scores, calibration where meant."""
    figures = []
    subsets = [subset for subset in found["rows"] if subset != ALL]
    wanted = results.get("training", {}).get("metric", "GAUC")
    metric = wanted if wanted in metrics else metrics[0] if metrics else None
    if subsets and metric is not None:
        bars = {
            name: [rows.get(subset, {}).get(metric, math.nan) for subset in subsets]
            for name, rows in methods.items()
        }
        figures.append(plots.subset_bars(metric, subsets, bars))
    scores = _array(diagnostics / "scores.npy", "float32")
    labels = _array(diagnostics / "labels.npy", "int8")
    if scores is not None and labels is not None and len(scores):
        if scores.shape != labels.shape:
            raise DataError(f"{diagnostics}: scores {scores.shape}, labels {labels.shape}")
        figures.append(plots.score_distributions(scores, labels))
        if calibrated:
            figures.append(plots.calibration_curve(scores, labels))
    return figures


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The configuration by dotted key."""
    flat: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = json.dumps(value, ensure_ascii=False)
    return flat


def _array(path: Path, dtype: str) -> np.ndarray | None:
    return read_array(path, dtype=dtype, shape=(None,)) if path.is_file() else None


def _json(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is no file."""
    if not path.is_file():
        return {}
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected an object, found {shown(value)}")
    return value


def write_scores(
    path: Path,
    impressions: list[str],
    items: list[str],
    candidates: np.ndarray,
    offsets: np.ndarray,
    scores: np.ndarray,
) -> None:
    """``impression TAB item:score TAB item:score ...``, best candidate first.

    Args:
        path: the file to write.
        impressions: raw id of each impression.
        items: raw id of every item.
        candidates: ``(M,)`` item rows, impression after impression.
        offsets: ``(n + 1,)`` where each impression's candidates begin.
        scores: ``(M,)`` float32.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as target:
        for row, order in enumerate(_orders(scores, offsets)):
            best = [f"{items[candidates[place]]}:{scores[place]:.6g}" for place in order]
            target.write("\t".join([impressions[row], *best]) + "\n")


def write_leaderboard(
    path: Path, impressions: list[str], offsets: np.ndarray, scores: np.ndarray
) -> None:
    """``impression [ranks]``: the rank of each candidate in the order given (1 = best).

    The submission format of https://msnews.github.io, ``prediction.txt``.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as target:
        for row, order in enumerate(_orders(scores, offsets)):
            ranks = np.empty(order.size, dtype=np.int64)
            ranks[order - offsets[row]] = np.arange(1, order.size + 1)
            target.write(f"{impressions[row]} [{','.join(map(str, ranks))}]\n")


def _orders(scores: np.ndarray, offsets: np.ndarray) -> Iterator[np.ndarray]:
    """Positions of each impression's candidates, best first; ties keep the order given."""
    rows = Ragged(scores, offsets).rows
    order = np.lexsort((-scores, rows))  # stable
    for begin, end in pairwise(offsets):
        yield order[begin:end]
