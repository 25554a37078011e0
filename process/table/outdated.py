"""Runs whose tables were replaced: they can no longer be opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from legos.data.manifest import MANIFEST, read_manifest
from legos.errors import DataError, some
from legos.runs.find import all_runs
from legos.runs.past import PastRun


def fingerprint_of(folder: Path) -> str | None:
    """Fingerprint of the tables in a folder; None where there are no readable ones."""
    if not (folder / MANIFEST).is_file():
        return None
    try:
        return str(read_manifest(folder)["fingerprint"])
    except (DataError, KeyError):
        return None


def runs_on(folder: Path, fingerprint: str) -> list[Path]:
    """Folders of the runs under ``runs/`` that were trained on these tables, newest first.

    Args:
        folder: of the tables.
        fingerprint: of the tables, before they are replaced.
    """
    there = folder.resolve()
    return [
        run.folder
        for run in map(PastRun, all_runs())
        if (own := (run.config.get("data") or {}).get("folder")) is not None
        and Path(own).resolve() == there
        and run.results.get("fingerprint") == fingerprint
    ]


def note_on(runs: Sequence[Path], folder: Path, name: str) -> str:
    """What to do about runs whose tables in a folder were replaced; at least one run."""
    were = "1 run was" if len(runs) == 1 else f"{len(runs):,} runs were"
    return (
        f"note: {were} trained on the tables that were just replaced and cannot be used any more: "
        f"{some(list(map(str, runs)))}. Train again on the new tables. To keep old runs usable, "
        f"write new tables to a folder of their own: --output {folder}-2 --name {name}"
    )
