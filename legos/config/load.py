"""From a command line to a checked :class:`RunConfig`: read, override, resolve, validate."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from legos.config.checks import FAMILIES, bricks
from legos.config.comparison import comparison_curve
from legos.config.data_schema import DataConfig
from legos.config.described import RunDescription
from legos.config.language_models import name_language_models
from legos.config.loaded import (
    loaded_run,
    refuse_moved_tables,
    refuse_unread,
    sections_of_run,
)
from legos.config.locations import CONFIG_FOLDER, KINDS, locate, yaml_files
from legos.config.messages import explain
from legos.config.model_schema import SystemModel
from legos.config.overrides import (
    Arguments,
    apply_dotted,
    check_variables,
    read_arguments,
    read_options,
)
from legos.config.references import referenced_variables, resolve
from legos.config.schema import EmbedConfig, ExpConfig, RunConfig
from legos.config.unread import refuse_unread_given
from legos.config.yaml_files import Document, KeyPath, merge, read_document
from legos.errors import ConfigError
from legos.registry import Registry

SECTIONS: dict[str, type[BaseModel]] = {
    "data": DataConfig,
    "model": SystemModel,
    "exp": ExpConfig,
    "embed": EmbedConfig,
}
_DEFAULT_EMBED = "null"
_COMPARED = {"model": "models", "embed": "embeds"}  # kind -> key of exp.compare
_OF_THE_ROW = ("data", "against", "train")  # keys of an entry that are none of its model's


def print_notice(text: str) -> None:
    """A line on stderr."""
    print(f"notice: {text}", file=sys.stderr)


def load_run_config(
    argv: Sequence[str], *, notice: Callable[[str], None] = print_notice
) -> RunConfig:
    """Read the YAMLs a command line names and everything it overrides.

    Args:
        argv: ``--data X --model X --exp X [--embed X] [--variable value] [--a.b.c value]``.
        notice: told of published variables without effect in this run.

    Raises:
        ConfigError: whatever is wrong, as much of it at once as can be known.
    """
    arguments = read_arguments(argv)
    trained = loaded_run(arguments)
    document = _gather(arguments, trained)
    read = referenced_variables(document.data)
    if trained is not None:
        read |= {"load"}
        refuse_unread(trained, [name for name in arguments.variables if name not in read])
    notices = arguments.notices + check_variables(arguments.variables, read)
    resolved = resolve(document, arguments.variables)
    name_language_models(resolved)
    config = _validate(resolved)
    if trained is not None:
        refuse_moved_tables(trained, config.data.folder)
    notices += refuse_unread_given(arguments, document, config)
    for text in notices:
        notice(text)
    return config


def load_exp_config(
    argv: Sequence[str], *, notice: Callable[[str], None] = print_notice
) -> ExpConfig:
    """Read the exp YAML alone, for what is done without data and model.

    Args:
        argv: ``--exp X [--variable value] [--exp.b.c value]``.
        notice: told of published variables without effect.

    Raises:
        ConfigError: whatever is wrong, options of another section included.
    """
    config = _load_sections(read_arguments(argv), ("exp",), notice)["exp"]
    return ExpConfig.model_validate(config)


@dataclass(frozen=True)
class EmbedJob:
    """What mode embed reads of a command line.

    Attributes:
        exp: the experiment YAML.
        data: the data YAML; None where none is given.
        data_words: the words that chose and overrode the data YAML.
    """

    exp: ExpConfig
    data: DataConfig | None
    data_words: tuple[str, ...]


def asks_for_vectors(argv: Sequence[str]) -> bool:
    """Whether a command line is of mode embed, which needs no model; mistakes are told later."""
    try:
        arguments = read_arguments(argv)
        document = Document({}, {})
        _put(document, ("exp",), read_document(locate("exp", arguments.yamls["exp"])))
        apply_dotted(document, _of(arguments, "exp"))
    except (ConfigError, KeyError):
        return False
    return bool(document.data["exp"].get("mode") == "embed")


def load_embed_job(
    argv: Sequence[str], *, notice: Callable[[str], None] = print_notice
) -> EmbedJob:
    """Read the exp YAML and, where there is one, the data YAML.

    Args:
        argv: ``--exp X [--data X] [--variable value] [--exp.b.c value]``.
        notice: told of published variables without effect.

    Raises:
        ConfigError: whatever is wrong, options of another section included.
    """
    arguments, options = read_arguments(argv), read_options(argv)
    sections = _load_sections(arguments, ("exp", "data"), notice)
    words: list[str] = []
    if "data" in arguments.yamls:
        read = referenced_variables(read_document(locate("data", arguments.yamls["data"])).data)
        chosen = [name for name in options if name.split(".")[0] == "data" or name in read]
        words = [word for name in chosen for word in (f"--{name}", options[name])]
    exp, data = ExpConfig.model_validate(sections["exp"]), sections.get("data")
    return EmbedJob(exp, None if data is None else DataConfig.model_validate(data), tuple(words))


def _load_sections(
    arguments: Arguments, kinds: Sequence[str], notice: Callable[[str], None]
) -> dict[str, BaseModel]:
    """Read those of a few YAMLs that are given; the exp YAML must be."""
    others = [*arguments.yamls, *(".".join(path) for path in arguments.dotted)]
    others = [name for name in others if name.split(".")[0] not in kinds]
    if others:
        read = " and ".join(f"--{kind}" for kind in kinds)
        keys = "its keys are" if len(kinds) == 1 else "their keys are"
        raise ConfigError(f"--{others[0]}: only {read} and {keys} read here; leave it out")
    needed = ["exp", *(path[0] for path in arguments.dotted)]
    missing = [kind for kind in dict.fromkeys(needed) if kind not in arguments.yamls]
    if missing:
        raise ConfigError("\n".join(map(_missing_option, missing)))
    document = Document({}, {})
    for kind, name in arguments.yamls.items():
        _put(document, (kind,), read_document(locate(kind, name)))
    apply_dotted(document, arguments.dotted)
    notices = arguments.notices + check_variables(
        arguments.variables, referenced_variables(document.data)
    )
    resolved = resolve(document, arguments.variables)
    name_language_models(resolved)
    checked, problems = _checked(resolved, {})
    if problems:
        raise _problems(problems)
    for text in notices:
        notice(text)
    return checked


def _gather(arguments: Arguments, trained: RunDescription | None = None) -> Document:
    """All sections in one document, overridden, with the models of a comparison put in.

    What is not given is as a trained run says it.
    """
    names = {"embed": _DEFAULT_EMBED, **arguments.yamls}
    sections: dict[str, Document] = {}
    problems: list[str] = []
    for kind in KINDS:
        if kind in names:
            try:
                sections[kind] = read_document(locate(kind, names[kind]))
            except ConfigError as error:
                problems.append(str(error))
    if trained is not None:
        own = sections_of_run(trained, sections.get("exp"), arguments)
        sections.update(own)
        names.update(dict.fromkeys(own, str(trained.folder)))
    run = Document({}, {})
    for kind, section in sections.items():
        _put(run, (kind,), section)
    compared: dict[str, int] = {}
    if "exp" in sections:
        apply_dotted(run, _of(arguments, "exp"))
        try:
            compared = _read_compared(run, arguments)
        except ConfigError as error:
            problems.append(str(error))
    if compared.get("model") and "model" not in names:
        first = _part(run, ("exp", "compare", "models", "0"))
        for key in _OF_THE_ROW:
            first.data.pop(key, None)
        _put(run, ("model",), first)
        names["model"] = "the first of exp.compare.models"
    problems += [_missing_option(kind) for kind in KINDS if kind not in names]
    if problems:
        raise ConfigError("\n".join(problems))
    for kind in ("data", "model", "embed"):
        dotted = _of(arguments, kind)
        apply_dotted(run, dotted)
        for prefix in _copies(run, kind, compared):
            apply_dotted(run, {(*prefix, *path[1:]): value for path, value in dotted.items()})
    return run


def _copies(run: Document, kind: str, compared: Mapping[str, int]) -> Iterator[KeyPath]:
    """Where ``exp.compare`` holds further sections of a kind."""
    for index in range(compared.get("model" if kind == "data" else kind, 0)):
        prefix: KeyPath = ("exp", "compare", _COMPARED.get(kind, "models"), str(index))
        if kind != "data":
            yield prefix
        elif run.data["exp"]["compare"]["models"][index].get("data") is not None:
            yield (*prefix, "data")


def _read_compared(run: Document, arguments: Arguments) -> dict[str, int]:
    """Put the content of YAMLs where ``exp.compare`` names them; returns how many by kind.

    An entry is the name of a YAML, or a mapping that names one (``model: naml``) beside keys that
    override its own; ``data`` beside a model names a data YAML, ``train`` overrides keys of
    ``exp.train`` for it. A ``--model`` or ``--embed`` of the command line takes the place of all.
    """
    compare = run.data["exp"].get("compare")
    counts: dict[str, int] = {}
    if not isinstance(compare, dict):
        return counts
    for kind, key in _COMPARED.items():
        if kind in arguments.yamls and key in compare:
            compare[key] = [arguments.yamls[kind]]
        entries = compare.get(key)
        if not isinstance(entries, list) or not all(
            _names(entry, kind) or _is_written_out(entry) for entry in entries
        ):
            continue  # the schema says what is wrong
        for index, entry in enumerate(entries):
            if _is_written_out(entry):
                continue
            prefix: KeyPath = ("exp", "compare", key, str(index))
            name = entry if isinstance(entry, str) else entry[kind]
            section = _read_named(run, prefix, kind, name)
            if isinstance(entry, dict):
                own = _part(run, prefix)
                del own.data[kind]
                merge(section, own)
            _put(run, prefix, section)
            if isinstance(section.data.get("train"), dict) and "train" in run.data["exp"]:
                train = _part(run, ("exp", "train"))
                merge(train, _part(run, (*prefix, "train")))
                _put(run, (*prefix, "train"), train)
            if kind == "model" and isinstance(entry, dict) and entry.get("data") is not None:
                data: KeyPath = (*prefix, "data")
                _put(run, data, _read_named(run, data, "data", entry["data"]))
        counts[kind] = len(entries)
    return counts


def _read_named(run: Document, place: KeyPath, kind: str, name: Any) -> Document:
    """The YAML that a key of ``exp.compare`` names; errors begin with that key."""
    try:
        if not isinstance(name, str):
            raise ConfigError(f"expected the name or path of a {kind} YAML, found {name!r}")
        return read_document(locate(kind, name))
    except ConfigError as error:
        raise ConfigError(f"{run.place(place)}: {'.'.join(place)}: {error}") from None


def _names(entry: Any, kind: str) -> bool:
    """Whether an entry of a comparison names a YAML."""
    return isinstance(entry, str) or (isinstance(entry, dict) and isinstance(entry.get(kind), str))


def _is_written_out(entry: Any) -> bool:
    """Whether it is a model of its own: key model of a system names a language model, no YAML."""
    return isinstance(entry, dict) and "system" in entry


def _validate(resolved: Document) -> RunConfig:
    checked, problems = _checked(resolved, {family: bricks(family) for family in FAMILIES})
    if not problems:
        try:
            config = RunConfig.model_validate(checked)
            comparison_curve(config)
            return config
        except ValidationError as error:
            problems += [details["msg"].removeprefix("Value error, ") for details in error.errors()]
    raise _problems(problems)


def _checked(
    resolved: Document, registries: Mapping[str, Registry]
) -> tuple[dict[str, BaseModel], list[str]]:
    """The sections that are there and right, and what is wrong with the others."""
    checked: dict[str, BaseModel] = {}
    problems: list[str] = []
    for kind, section in SECTIONS.items():
        if kind not in resolved.data:
            continue
        try:
            checked[kind] = section.model_validate(resolved.data[kind])
        except ValidationError as error:
            problems += explain(error, section, resolved, (kind,), registries)
    return checked, problems


def _problems(found: Sequence[str]) -> ConfigError:
    problems = list(dict.fromkeys(found))
    head = "" if len(problems) == 1 else f"{len(problems)} settings are wrong:\n  "
    return ConfigError(head + "\n  ".join(problems))


def _missing_option(kind: str) -> str:
    known = ", ".join(path.stem for path in yaml_files(CONFIG_FOLDER / kind))
    return f"--{kind}: missing; choose from: {known} (or the path of a YAML)"


def _of(arguments: Arguments, kind: str) -> dict[KeyPath, Any]:
    return {path: value for path, value in arguments.dotted.items() if path[0] == kind}


def _put(run: Document, prefix: KeyPath, section: Document) -> None:
    here: Any = run.data
    for key in prefix[:-1]:
        here = here[int(key)] if isinstance(here, list) else here[key]
    here[int(prefix[-1]) if isinstance(here, list) else prefix[-1]] = section.data
    run.places.update(section.below(prefix))


def _part(run: Document, prefix: KeyPath) -> Document:
    """A copy of what lies below a key path."""
    from copy import deepcopy

    here: Any = run.data
    for key in prefix:
        here = here[int(key)] if isinstance(here, list) else here[key]
    depth = len(prefix)
    places = {path[depth:]: at for path, at in run.places.items() if path[:depth] == prefix}
    return Document(deepcopy(here), places)
