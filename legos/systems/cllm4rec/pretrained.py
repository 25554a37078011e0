"""Pretraining that runs share: variants that differ only in what comes after it do it once.

The first of them leaves the path of its checkpoint in ``<runs>/<data>/pretrained/<identity>.json``;
the others begin there, with the same bits as if they had pretrained themselves.
"""

from __future__ import annotations

from pathlib import Path

from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.errors import CheckpointError
from legos.files import write_json
from legos.records import Record, read_record
from legos.runs.checkpoint import has_checkpoint
from legos.runs.identity import Identity, run_identity
from legos.settings import settings

_FOLDER = "pretrained"


class _Pointer(Record):
    """Where a finished pretraining lies."""

    checkpoint: str


class Pretrained:
    """Where runs with the same pretraining find each other.

    Args:
        config: of the run.
        tables: its data set.
        checkpoint: where the run itself leaves its pretraining.
    """

    def __init__(self, config: RunConfig, tables: Tables, checkpoint: Path) -> None:
        whole = run_identity(config, tables)
        chosen = whole.settings.get("model.content.checkpoint") == "valid"
        later = set() if chosen else {each.key for each in settings(config) if each.mark.phase}
        own = {key: value for key, value in whole.settings.items() if key not in later}
        identity = Identity(own, whole.sources)
        folder = config.exp.runs_folder / config.data.name / _FOLDER
        self._path, self._checkpoint = folder / f"{identity.id}.json", checkpoint

    def find(self) -> Path | None:
        """The checkpoint of another run's pretraining; None where there is none (any more)."""
        if not self._path.is_file():
            return None
        found = read_record(
            self._path, _Pointer, error=CheckpointError, hint="delete it; it is written again"
        )
        path = Path(found.checkpoint)
        return path if has_checkpoint(path) else None

    def leave(self) -> None:
        """Tell other runs of the finished pretraining, unless they know of one."""
        if self.find() is None:
            write_json(self._path, {"checkpoint": str(self._checkpoint)})
