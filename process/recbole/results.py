"""What RecBole reports becomes rows of metrics with our names, each checked to be possible."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from legos.errors import DataError
from legos.metrics.full_ranking import PRINTED, require_possible
from legos.records import Record, Sha256, read_record
from process.recbole.export import MANIFEST
from process.recbole.settings import MODELS

NAMES = {"hit": "HR", "ndcg": "nDCG", "recall": "Recall", "mrr": "MRR"}
_VALUE = re.compile(r"\b([a-z]+)@(\d+)'?\s*[:,]\s*([0-9.eE-]+)")


class _Export(Record):
    """What is asked of an export's manifest."""

    events: Sha256


class _Result(Record):
    """What ``run_model.py`` writes."""

    model: str
    test_result: dict[str, float]
    events: str | None = None


def read_row(path: Path, *, events: str | None = None) -> tuple[str, dict[str, float]]:
    """Name of the model and its metrics on the test split, by our names.

    Args:
        path: the JSON that ``run_model.py`` writes, or a log of RecBole (its last line with
            ``test result``); a log is named ``<model>-...log`` or ``<model>.log``.
        events: hash of the exported events; a JSON of others is refused.

    Raises:
        DataError: neither of both, of other events, no result in it, or an impossible one.
    """
    if path.suffix == ".json":
        model, found = _of_json(path, events)
    else:
        text = path.read_text(encoding="utf-8", errors="replace")
        model, found = re.split(r"[-.]", path.name)[0], _of_log(text)
    row = {
        f"{NAMES[kind]}@{cutoff}" if kind != "mrr" else f"MRR@{cutoff}": value
        for (kind, cutoff), value in found.items()
        if kind in NAMES
    }
    if not row:
        raise DataError(f"{path}: no test result in it; did the run finish?")
    require_possible(
        {name: value for name, value in row.items() if not name.startswith("MRR")},
        source=str(path),
        tolerance=PRINTED,
    )
    return model, row


def read_rows(folder: Path, files: Sequence[Path] = ()) -> dict[str, dict[str, float]]:
    """Rows by model, in the order of ``MODELS``.

    Args:
        folder: of an export.
        files: results; none: all ``<model>.json`` of the folder.

    Raises:
        DataError: the folder is no export, there is no result, or one of them is wrong.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise DataError(
            f"{folder}: no {MANIFEST}; make it with python -m process.recbole export --output"
        )
    events = read_record(manifest, _Export, hint="export again").events
    results = list(files) or [
        path for model in MODELS if (path := folder / f"{model}.json").is_file()
    ]
    if not results:
        raise DataError(
            f"{folder}: no <model>.json yet; run python process/recbole/run_model.py {folder} "
            "GRU4Rec in RecBole's environment"
        )
    return dict(read_row(path, events=events) for path in results)


def rows_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Rows as a Markdown table."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    names.sort(key=lambda name: (int(name.split("@")[1]), name))
    lines = [f"| model | {' | '.join(names)} |", f"|{'---|' * (len(names) + 1)}"]
    for model, row in rows.items():
        cells = [f"{row[name]:.4f}" if name in row else "" for name in names]
        lines.append(f"| {model} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _of_json(path: Path, events: str | None) -> tuple[str, dict[tuple[str, str], float]]:
    content = read_record(path, _Result, hint="expected a result of run_model.py")
    model, values = content.model, content.test_result
    if events is not None and content.events != events:
        raise DataError(f"{path}: a result for different events than this export; run it again")
    parts = {key: key.lower().partition("@") for key in values}
    return model, {(kind, k): values[key] for key, (kind, _, k) in parts.items()}


def _of_log(text: str) -> dict[tuple[str, str], float]:
    lines = [line for line in text.splitlines() if "test result" in line]
    if not lines:
        return {}
    return {(kind, k): float(value) for kind, k, value in _VALUE.findall(lines[-1])}
