"""``config.json`` of a run folder: the resolved configuration, and the contents that it read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from legos.config.locations import shown
from legos.errors import CheckpointError
from legos.files import write_json
from legos.records import read_json

if TYPE_CHECKING:
    from legos.config.schema import RunConfig

FILE = "config.json"
FORMAT = 2
SECTIONS = ("data", "model", "exp", "embed")


@dataclass(frozen=True)
class RunDescription:
    """What a run folder says of its run.

    Attributes:
        folder: of the run.
        run: its id.
        sections: data, model, exp and embed as plain values.
        sources: by dotted key the content that was read (:mod:`legos.runs.identity`).
    """

    folder: Path
    run: str
    sections: Mapping[str, Any]
    sources: Mapping[str, str]

    @property
    def config(self) -> RunConfig:
        """The checked configuration.

        Raises:
            CheckpointError: another version of the toolkit wrote it.
        """
        from legos.config.schema import RunConfig

        try:
            return RunConfig.model_validate(dict(self.sections))
        except (ValidationError, ValueError) as error:
            first = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{shown(self.folder / FILE)}: not a configuration of this version ({first}); give "
                "--data, --model, --embed and --exp as in the training"
            ) from None


def write_description(
    folder: Path, run: str, config: RunConfig, sources: Mapping[str, str]
) -> None:
    """Write ``config.json``; :func:`read_description` reads it."""
    head = {"format": FORMAT, "run": run, "sources": dict(sources)}
    write_json(folder / FILE, head | config.model_dump(mode="json"))


def find_run(path: Path) -> Path | None:
    """The run folder that a run folder or one of its checkpoints lies in; None: in none."""
    around = [path, *list(path.absolute().parents)[:2]]
    return next((folder for folder in around if (folder / FILE).is_file()), None)


def read_description(path: Path) -> RunDescription:
    """What a run says of itself.

    Args:
        path: a run folder, or a checkpoint inside one.

    Raises:
        CheckpointError: it is no run folder, or another version wrote it.
    """
    if not path.exists():
        raise CheckpointError(f"{shown(path)}: there is no such run folder")
    folder = find_run(path)
    if folder is None:
        raise CheckpointError(
            f"{shown(path)}: no run folder, it has no {FILE}; expected "
            "runs/<data>/<model>/<run id>, or give --data, --model and --embed as in the training"
        )
    file = folder / FILE
    found = read_json(file, error=CheckpointError)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        said = found.get("format") if isinstance(found, dict) else type(found).__name__
        raise CheckpointError(
            f"{shown(file)}: format {said!r}, this version reads {FORMAT}; give --data, --model, "
            "--embed and --exp as in the training"
        )
    run, sources = found.get("run"), found.get("sources")
    sections = {kind: found.get(kind) for kind in SECTIONS}
    wrong = [kind for kind, value in sections.items() if not isinstance(value, dict)]
    if isinstance(sources, dict) and not all(isinstance(told, str) for told in sources.values()):
        sources = None
    if not isinstance(run, str) or not isinstance(sources, dict) or wrong:
        what = ", ".join(wrong) or ("run" if not isinstance(run, str) else "sources")
        raise CheckpointError(f"{shown(file)}: {what} missing or not as written; was it edited?")
    return RunDescription(folder, run, sections, sources)
