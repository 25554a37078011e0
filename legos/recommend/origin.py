"""Which run made a file of lists, and when it was trained."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.runs.checkpoint import STATE_FILE, checkpoint_content, checkpoint_in


def trained_at(folder: Path) -> datetime:
    """When the checkpoint of a run was written: UTC, to the second."""
    written = (checkpoint_in(folder) / STATE_FILE).stat().st_mtime
    return datetime.fromtimestamp(int(written), UTC)


def origin_of(folder: Path, config: RunConfig, tables: Tables) -> dict[str, Any]:
    """What a file beside lists says of a run; plain values."""
    return {
        "folder": str(folder),
        "run": folder.name,
        "model": config.model.name,
        "trained": trained_at(folder).isoformat(),
        "checkpoint": checkpoint_content(checkpoint_in(folder)),
        "tables_folder": str(tables.folder),
        "tables": tables.fingerprint,
    }
