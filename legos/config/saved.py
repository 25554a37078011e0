"""Configurations as files: ``config.json`` of a run folder, which ``--load`` reads, and ``--save``.

``config.json`` has the resolved configuration and the contents that it read. ``worker.py --save
FILE`` writes the whole configuration of a run as one YAML that explains itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from legos.config.document import Document, KeyPath, leaves
from legos.config.overrides import Arguments
from legos.config.references import referenced_variables
from legos.config.schema import RunConfig
from legos.config.yaml_files import KINDS, parse_value, shown
from legos.errors import CheckpointError, ConfigError
from legos.home import home
from legos.lm.settings import LanguageModelSource
from legos.plugins import load_remembered
from legos.records import read_json
from legos.terminal import as_started

FILE = "config.json"
FORMAT = 2
_WIDTH = 100
_PLAIN = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./@+-]*")  # texts that need no quotes
_HEAD = """\
# The whole configuration of a run; a value that is the default says so
# python worker.py --config {file}
"""
_ERRAND = (
    "name",
    "mode",
    "load",
    "export",
    "recommend",
)  # keys of an experiment that say what to do


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
        """The checked configuration; plug-ins of the run are brought in.

        Raises:
            CheckpointError: another version of the toolkit wrote it, or a plug-in is missing or has
                changed.
        """
        load_remembered(self.sources, self.folder)
        try:
            return RunConfig.model_validate(dict(self.sections))
        except (ValidationError, ValueError) as error:
            first = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{shown(self.folder / FILE)}: not a configuration of this version ({first}); give "
                "--data, --model, --embed and --exp as in the training"
            ) from None


def enclosing_run(path: Path) -> Path | None:
    """The run folder that a run folder or one of its checkpoints lies in; None: in none."""
    around = [path, *list(path.absolute().parents)[:2]]
    return next((folder for folder in around if (folder / FILE).is_file()), None)


def read_description(path: Path) -> RunDescription:
    """What a run folder, or that of a checkpoint, says of its run.

    Raises:
        CheckpointError: it is no run folder, or another version wrote it.
    """
    if not path.exists():
        raise CheckpointError(f"{shown(path)}: no such run folder")
    folder = enclosing_run(path)
    if folder is None:
        raise CheckpointError(
            f"{shown(path)}: not a run folder: it has no {FILE}; expected "
            "runs/<data>/<model>/<run id>, or give --data, --model and --embed as in the training"
        )
    return _description(folder, read_json(folder / FILE, error=CheckpointError))


def _description(folder: Path, found: Any) -> RunDescription:
    file = folder / FILE
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        said = found.get("format") if isinstance(found, dict) else type(found).__name__
        raise CheckpointError(
            f"{shown(file)}: format {said!r}, this version reads {FORMAT}; give --data, --model, "
            "--embed and --exp as in the training"
        )
    run, sources = found.get("run"), found.get("sources")
    sections: dict[str, Any] = {kind: found.get(kind) for kind in KINDS}
    wrong = [kind for kind, value in sections.items() if not isinstance(value, dict)]
    if isinstance(sources, dict) and not all(isinstance(told, str) for told in sources.values()):
        sources = None
    if not isinstance(run, str) or not isinstance(sources, dict) or wrong:
        what = ", ".join(wrong) or ("run" if not isinstance(run, str) else "sources")
        raise CheckpointError(f"{shown(file)}: {what} missing or not as written; was it edited?")
    tables = _tables_now(folder, sections["data"].get("folder"))
    sections["data"] = {**sections["data"], "folder": tables}
    return RunDescription(folder, run, sections, sources)


def _tables_now(run: Path, named: Any) -> Any:
    """The tables of a run that names them by a relative path, seen from another folder.

    They are where the run says, in ``LEGOS_HOME``, or beside the ``runs/`` that the run lies in.
    """
    if not isinstance(named, str):
        return named
    homes = (Path(), home(), *list(run.absolute().parents)[3:4])
    found = (around / named for around in homes if (around / named / "manifest.json").is_file())
    return str(next(found, named))


def known_description(path: Path) -> RunDescription | None:
    """What is known of where a checkpoint lies.

    None where it lies in no run folder, or in one of the first versions, whose ``config.json`` has
    no format and does not say what was read.

    Raises:
        CheckpointError: the description is not as written.
    """
    folder = enclosing_run(path)
    if folder is None:
        return None
    found = read_json(folder / FILE, error=CheckpointError)
    if isinstance(found, dict) and found.keys() == set(KINDS):
        return None
    return _description(folder, found)


def loaded_run(arguments: Arguments, named: Any) -> RunDescription | None:
    """The run that is named for ``exp.load``, where it can say what the command line does not.

    Raises:
        CheckpointError: YAMLs are missing and it is no run folder, or one of another version.
    """
    if not isinstance(named, str | int):
        return None
    path = Path(str(named))
    if not {"data", "model"} <= arguments.sections.keys():
        trained = read_description(path)
        _ = trained.config  # of this version
        return trained
    try:
        run = None if enclosing_run(path) is None else read_description(path)
        if run is not None:
            load_remembered(run.sources, run.folder)
        return run
    except CheckpointError:  # all is said on the command line
        return None


def sections_of_run(
    trained: RunDescription, exp: Document | None, arguments: Arguments
) -> dict[str, Document]:
    """The sections that the run itself says, and its experiment with what ``exp`` asks for now.

    Without an experiment YAML the mode is test.
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
    if exp is None:
        return sections
    for path, value in _said(exp, arguments):
        here = own.data
        for key in path[:-1]:
            if not isinstance(here.get(key), dict):
                here[key] = {}
            here = here[key]
        here[path[-1]] = value
        own.places[path] = exp.place(path)
    return sections


def _said(exp: Document, arguments: Arguments) -> Iterator[tuple[KeyPath, Any]]:
    """Keys of an experiment that count beside a run."""
    file = exp.places[()]
    for path, value in leaves(exp.data) if exp.data else ():
        own = exp.place(path).rpartition(":")[0] == file
        if own or path[0] in _ERRAND or referenced_variables(value) & arguments.variables.keys():
            yield path, value


def refuse_other_settings(trained: RunDescription, variables: list[str]) -> None:
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
            "not there; --data.folder FOLDER gives their new location"
        )


def yaml_of(config: RunConfig, path: Path) -> str:
    """The text of a file that ``--config`` reads; its head names the path."""
    text = as_started(_HEAD.format(file=shown(path)))
    for kind in KINDS:
        section: BaseModel = getattr(config, kind)
        text += f"\n{kind}:\n" + "".join(f"{line}\n" for line in _lines(section, 1))
    return text


def _lines(section: BaseModel, level: int) -> Iterator[str]:
    """The keys of a section, each below its meaning."""
    indent = "  " * level
    plain = section.model_dump(mode="json")
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        for line in wrap(field.description or "", _WIDTH - len(indent) - 2):
            yield f"{indent}# {line}"
        if isinstance(value, LanguageModelSource):
            given = {key: said for key, said in plain[name].items() if said not in (None, False)}
            yield f"{indent}{name}: {_value(given)}{_default(field, value)}"
        elif isinstance(value, BaseModel):
            yield f"{indent}{name}:{_default(field, value)}"
            yield from _lines(value, level + 1)
        elif isinstance(value, tuple) and any(isinstance(each, BaseModel) for each in value):
            yield f"{indent}{name}:"
            for each in value:
                first, *others = (line[len(indent) + 4 :] for line in _lines(each, level + 2))
                yield f"{indent}  - {first}"
                yield from (f"{indent}    {line}" for line in others)
        else:
            yield f"{indent}{name}: {_value(plain[name])}{_default(field, value)}"


def _default(field: FieldInfo, value: Any) -> str:
    """The mark of a value that is as without it."""
    if field.is_required():
        return ""
    default = field.get_default(call_default_factory=True, validated_data={})
    return "  # default" if default == value else ""


def _value(value: Any) -> str:
    """A plain value in one line of YAML."""
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and parse_value(value) == value
        return value if plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_value(key)}: {_value(each)}' for key, each in value.items())}}}"
    return json.dumps(value)
