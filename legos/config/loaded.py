"""``--load RUN``: whatever is not said beside it is as that run was trained.

Of the experiment YAML beside it count its mode, the keys that stand in the file itself, and those
that a variable of the command line sets; all else, such as what its imports say of training, is the
run's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from legos.config.described import FILE, RunDescription, find_run, read_description
from legos.config.locations import shown
from legos.config.overrides import Arguments
from legos.config.references import leaves, referenced_variables
from legos.config.yaml_files import Document, KeyPath
from legos.errors import CheckpointError, ConfigError

_ERRAND = ("name", "mode", "load", "export")  # keys of an experiment that say what to do
_LOAD: KeyPath = ("exp", "load")


def loaded_run(arguments: Arguments) -> RunDescription | None:
    """The run that a command line loads, where it can say what the command line does not.

    Raises:
        CheckpointError: YAMLs are missing and it is no run folder, or one of another version.
    """
    named = arguments.variables.get("load", arguments.dotted.get(_LOAD))
    if not isinstance(named, str | int):
        return None
    path = Path(str(named))
    if not {"data", "model"} <= arguments.sections.keys():
        trained = read_description(path)
        _ = trained.config  # of this version
        return trained
    try:
        return None if find_run(path) is None else read_description(path)
    except CheckpointError:  # all is said on the command line
        return None


def sections_of_run(
    trained: RunDescription, exp: Document | None, arguments: Arguments
) -> dict[str, Document]:
    """The sections that the run itself says, and its experiment with what is asked for now.

    Args:
        trained: the run.
        exp: the experiment YAML; None: mode test.
        arguments: of the command line.
    """
    place = shown(trained.folder / FILE)
    sections = {
        kind: Document(deepcopy(dict(value)), {(): place})
        for kind, value in trained.sections.items()
        if kind == "exp" or kind not in arguments.sections
    }
    own = sections["exp"]
    own.data.update(name="test", mode="test")
    own.data["load"] = str(arguments.variables.get("load", trained.folder))
    if exp is not None:
        for path, value in _said(exp, set(arguments.variables)):
            here = own.data
            for key in path[:-1]:
                if not isinstance(here.get(key), dict):
                    here[key] = {}
                here = here[key]
            here[path[-1]] = value
            own.places[path] = exp.place(path)
    return sections


def refuse_unread(trained: RunDescription, variables: list[str]) -> None:
    """Raise ConfigError for variables that nothing reads beside ``--load``."""
    others = [name for name in variables if name != "load"]
    if others:
        raise ConfigError(
            f"--{others[0]}: nothing reads it beside --load, because all settings are those of "
            f"{shown(trained.folder)}; give the key itself, such as --exp.evaluate.metrics or "
            "--data.folder"
        )


def refuse_moved_tables(trained: RunDescription, folder: Path) -> None:
    """Raise ConfigError where the tables of a run are no longer where they were."""
    if not (folder / "manifest.json").is_file():
        raise ConfigError(
            f"data.folder: {shown(trained.folder)} was trained on tables in {folder}, which are "
            "not there; --data.folder FOLDER says where they are now"
        )


def _said(exp: Document, variables: set[str]) -> Iterator[tuple[KeyPath, Any]]:
    """Keys of an experiment that count beside a run."""
    file = exp.places[()]
    for path, value in leaves(exp.data) if exp.data else ():
        own = exp.place(path).rpartition(":")[0] == file
        asked = bool(referenced_variables(value) & variables)
        if own or asked or path[0] in _ERRAND:
            yield path, value
