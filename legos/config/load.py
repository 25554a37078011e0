"""From a command line to a checked :class:`RunConfig`: read, override, resolve, validate."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from legos.config.comparison import OF_THE_ROW, comparison_curve, copies, read_compared
from legos.config.data_schema import DataConfig, EmbedConfig
from legos.config.document import Document, merge, value_at
from legos.config.exp_schema import ExpConfig
from legos.config.first_run import FirstRun, first_run
from legos.config.messages import explain
from legos.config.model_schema import SystemModel
from legos.config.models import name_language_models, names_of, read_section, use_bricks
from legos.config.overrides import (
    COMMAND_LINE,
    PLUGIN,
    Arguments,
    apply_dotted,
    check_variables,
    read_arguments,
    read_options,
)
from legos.config.references import referenced_variables, resolve
from legos.config.refusals import refuse_unread_given
from legos.config.saved import (
    RunDescription,
    loaded_run,
    refuse_moved_tables,
    refuse_other_settings,
    sections_of_run,
    yaml_of,
)
from legos.config.schema import RunConfig
from legos.config.search import check_ranges, words_of
from legos.config.training import settle_training
from legos.config.yaml_files import FAMILIES, KINDS, shown
from legos.errors import ConfigError, some
from legos.files import atomic_path
from legos.plugins import load_plugin

_RANGES = ("exp", "search", "ranges")
SECTIONS: dict[str, type[BaseModel]] = {
    "data": DataConfig,
    "model": SystemModel,
    "exp": ExpConfig,
    "embed": EmbedConfig,
}


def print_notice(text: str) -> None:
    """A line on stderr."""
    print(f"notice: {text}", file=sys.stderr)


def load_run_config(
    argv: Sequence[str], *, notice: Callable[[str], None] = print_notice
) -> RunConfig:
    """Read the YAMLs a command line names and everything it overrides.

    Args:
        argv: ``--data X --model X --exp X [--embed X] [--variable value] [--a.b.c value]``.
        notice: told of what is given and has no effect.

    Raises:
        ConfigError: whatever is wrong, as much of it at once as can be known.
    """
    config, document, notices = _load(argv)
    if config.exp.mode == "search" and config.exp.search is not None:
        ranges, load = config.exp.search.ranges, partial(load_trial, argv)
        check_ranges(ranges, _RANGES, document, read_options(argv), load)
    if config.exp.compare is not None:
        if config.exp.compare.search is None:
            notices += _unsearched(config)
        elif config.exp.compare.search.trials:
            _check_rows(config, document)
    for text in notices:
        notice(text)
    return config


def load_trial(argv: Sequence[str], values: Mapping[str, Any]) -> RunConfig:
    """The training of one trial of a search, the run that this command line starts by itself.

    Args:
        argv: of the search.
        values: by dotted key or variable.

    Raises:
        ConfigError: as :func:`load_run_config`.
    """
    config, _, _ = _load([*argv, *words_of(values)])
    exp = config.exp.model_copy(update={"mode": "train", "search": None})
    return config.model_copy(update={"exp": exp})


def load_over(config: RunConfig, values: Mapping[str, Any], place: str = COMMAND_LINE) -> RunConfig:
    """A configuration with some keys set, as ``--config`` of its file and these words give it.

    Args:
        config: of a run.
        values: by dotted key.
        place: where they are given.

    Raises:
        ConfigError: a key that is not there, a value that the schema refuses.
    """
    document = Document(config.model_dump(mode="json"), {(): config.model.name})
    apply_dotted(document, {tuple(key.split(".")): value for key, value in values.items()}, place)
    use_bricks(document, ("model",), {}, place)  # ``model.user: gru``
    return _validate(document)


def _unsearched(config: RunConfig) -> list[str]:
    """A notice where rows have ranges and nothing says how long they are searched."""
    names = [row.label for row in config.rows() if row.ranges]
    if not names:
        return []
    return [
        f"rows with ranges, but not searched: {some(names)}; --exp.compare.search.trials 10 tries "
        "10 settings for each, --exp.compare.search.trials 0 silences this notice"
    ]


def _check_rows(config: RunConfig, document: Document) -> None:
    """Refuse ranges of rows that no trial could take."""
    compare, problems = config.exp.compare, []
    by_model = {entry.name: index for index, entry in enumerate(compare.models if compare else ())}
    for row in config.rows():
        key = ("exp", "compare", "models", str(by_model[row.model]), "ranges")
        try:
            check_ranges(row.ranges, key, document, (), partial(load_over, row.runs[0]))
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))


def _load(argv: Sequence[str]) -> tuple[RunConfig, Document, list[str]]:
    """A configuration, its sections before references are resolved, and notices."""
    arguments = read_arguments(argv)
    loaded = arguments.variables.get("load", arguments.dotted.get(("exp", "load")))
    trained = None if loaded is None else loaded_run(arguments, loaded)
    document = _gather(arguments, trained)
    read = referenced_variables(document.data) | arguments.in_names
    if trained is not None:
        read |= {"load"}
        refuse_other_settings(trained, [name for name in arguments.variables if name not in read])
    notices = arguments.notices + check_variables(arguments.variables, read)
    config = _validate(_resolved(document, arguments))
    if trained is not None:
        refuse_moved_tables(trained, config.data.folder)
    notices += refuse_unread_given(arguments, document, config)
    return config, document, notices


def save_configuration(config: RunConfig, path: Path) -> None:
    """Write a configuration so that ``--config path`` is the same run again.

    Raises:
        ConfigError: there is such a file, or a value that no YAML gives back (``${``).
    """
    if path.exists():
        raise ConfigError(f"--save {shown(path)}: already exists; delete it or choose another name")
    with atomic_path(path) as written:
        written.write_text(yaml_of(config, path), encoding="utf-8")
        again = load_run_config(["--config", str(written)], notice=lambda text: None)
        for kind in KINDS:
            if getattr(again, kind) != getattr(config, kind):
                raise ConfigError(f"--save: section {kind} has a value that YAML cannot hold")


def load_exp_config(
    argv: Sequence[str], *, notice: Callable[[str], None] = print_notice
) -> ExpConfig:
    """The same of the exp YAML alone, for what is done without data and model."""
    return ExpConfig.model_validate(_load_sections(read_arguments(argv), ("exp",), notice)["exp"])


@dataclass(frozen=True)
class EmbedJob:
    """What mode embed reads of a command line; the words that chose and overrode the data YAML."""

    exp: ExpConfig
    data: DataConfig | None
    data_words: tuple[str, ...]


def asks_for_vectors(argv: Sequence[str]) -> bool:
    """Whether a command line is of mode embed, which needs no model; mistakes are told later."""
    try:
        arguments = read_arguments(argv)
        document = Document({}, {})
        document.put(("exp",), read_section("exp", arguments.sections["exp"]))
        apply_dotted(document, arguments.of("exp"))
    except (ConfigError, KeyError):
        return False
    return bool(document.data["exp"].get("mode") == "embed")


def load_embed_job(
    argv: Sequence[str], *, notice: Callable[[str], None] = print_notice
) -> EmbedJob:
    """The same of the exp YAML and, where there is one, the data YAML."""
    arguments, options = read_arguments(argv), read_options(argv)
    sections = _load_sections(arguments, ("exp", "data"), notice)
    exp = ExpConfig.model_validate(sections["exp"])
    if "data" not in sections:
        return EmbedJob(exp, None, ())
    read = referenced_variables(read_section("data", arguments.sections["data"]).data)
    chosen = [name for name in options if name.split(".")[0] == "data" or name in read]
    words = tuple(word for name in chosen for word in (f"--{name}", options[name]))
    return EmbedJob(exp, DataConfig.model_validate(sections["data"]), words)


def _load_sections(
    arguments: Arguments, kinds: Sequence[str], notice: Callable[[str], None]
) -> dict[str, BaseModel]:
    """Read those of a few YAMLs that are given; the exp YAML must be."""
    others = [*arguments.yamls, *arguments.bricks, *(".".join(path) for path in arguments.dotted)]
    others += [PLUGIN] if arguments.plugins else []
    others = [name for name in others if name.split(".")[0] not in kinds]
    if others:
        read = " and ".join(f"--{kind}" for kind in kinds)
        keys = "its keys are" if len(kinds) == 1 else "their keys are"
        raise ConfigError(f"--{others[0]}: only {read} and {keys} read here; remove it")
    needed = ["exp", *(path[0] for path in arguments.dotted)]
    missing = [kind for kind in dict.fromkeys(needed) if kind not in arguments.sections]
    if missing:
        raise ConfigError("\n".join(map(_missing_option, missing)))
    document = Document({}, {})
    for kind in kinds:
        if kind in arguments.sections:
            document.put((kind,), read_section(kind, arguments.sections[kind]))
    apply_dotted(document, arguments.dotted)
    read_here = referenced_variables(document.data)
    notices = arguments.notices + check_variables(arguments.variables, read_here)
    checked, problems = _checked(_resolved(document, arguments))
    if problems:
        raise _problems(problems)
    for text in notices:
        notice(text)
    return checked


def _gather(arguments: Arguments, trained: RunDescription | None) -> Document:
    """All sections in one document, overridden, with the models of a comparison put in.

    What is not given is as a trained run says it.
    """
    chosen = FirstRun() if trained is not None else first_run(arguments)
    arguments.notices.extend([chosen.notice] if chosen.notice else [])
    names = {"embed": "null", **arguments.sections, **chosen.names}
    sections: dict[str, Document] = {}
    problems: list[str] = []
    for kind in ("exp", *KINDS):  # models may be made with the plug-ins of the experiment
        if kind in names and kind not in sections:
            try:
                sections[kind] = read_section(kind, names[kind])
            except ConfigError as error:
                problems.append(str(error))
        if kind == "exp":
            _load_plugins(sections.get(kind), arguments)
    if trained is not None:
        sections.update(sections_of_run(trained, sections.get("exp"), arguments))
    if "model" in sections:
        merge(sections["model"], Document(chosen.settings))
    if "model" not in sections and arguments.bricks.keys() == set(FAMILIES):
        name = "-".join(arguments.bricks[family] for family in FAMILIES)
        sections["model"] = Document({"name": name, "hidden_size": "${hidden_size}"}, {})
    run = Document({}, {})
    for kind in KINDS:
        if kind in sections:
            run.put((kind,), sections[kind])
    compared: dict[str, int] = {}
    needed: tuple[str, ...] = KINDS if "exp" in sections else ("data", "exp")
    if "exp" in sections:
        apply_dotted(run, arguments.of("exp"))
        if isinstance(run.data["exp"].get("compare"), dict):
            try:
                compared = read_compared(run, arguments)
            except ConfigError as error:
                problems.append(str(error))
                needed = ("data", "exp")  # its models may be all that it needs
    if compared.get("model") and "model" not in names and trained is None:
        first = run.part(("exp", "compare", "models", "0"))
        for key in OF_THE_ROW:
            first.data.pop(key, None)
        run.put(("model",), first)
    problems += [_missing_option(kind) for kind in needed if kind not in run.data | names]
    if problems:
        raise ConfigError("\n".join(problems))
    _override(run, arguments, compared)
    arguments.notices.extend(_search_as_the_model_says(run, arguments))
    return run


def _search_as_the_model_says(run: Document, arguments: Arguments) -> list[str]:
    """Put a model's own ranges in place of those of the experiment in mode search; a notice."""
    exp, ranges = run.data["exp"], value_at(run.data, ("model", "ranges"))
    given = any(path[:3] == _RANGES for path in arguments.dotted)
    if exp.get("mode") != "search" or not ranges or given:
        return []
    exp["search"] = exp.get("search") or {}
    replaced = exp["search"].get("ranges")
    run.put(_RANGES, run.part(("model", "ranges")))
    if not replaced:
        return []
    return [
        f"searching the ranges of the model, {', '.join(ranges)}, instead of those of the "
        f"experiment, {', '.join(replaced)}; --exp.search.ranges overrides both"
    ]


def _load_plugins(exp: Document | None, arguments: Arguments) -> None:
    """Import the plug-ins that an experiment and a command line name; the experiment has all then.

    Raises:
        ConfigError: one is not here, or its import fails.
    """
    said = None if exp is None else exp.data.get("plugins")
    said = arguments.dotted.get(("exp", "plugins"), said)
    named = [*(said if isinstance(said, list) else ()), *arguments.plugins]
    for name in dict.fromkeys(named):
        load_plugin(str(name))
    if exp is not None and arguments.plugins:
        exp.data["plugins"] = list(dict.fromkeys(named))
        exp.places["plugins",] = COMMAND_LINE


def _override(run: Document, arguments: Arguments, compared: Mapping[str, int]) -> None:
    """Put what the command line says over all sections but the experiment, bricks by name first."""
    models = [("model",), *(copies(run, "model", compared) if compared else ())]
    if arguments.bricks:
        for prefix in models:
            use_bricks(run, prefix, arguments.bricks, COMMAND_LINE)
    for kind in ("data", "model", "embed"):
        dotted = arguments.of(kind)
        apply_dotted(run, dotted)
        for prefix in copies(run, kind, compared) if compared else ():
            apply_dotted(run, {(*prefix, *path[1:]): value for path, value in dotted.items()})
    if arguments.of("model"):
        for prefix in models:
            use_bricks(run, prefix, {}, COMMAND_LINE)  # ``--model.item '{like: cnn}'``
    given = {
        path: value for path, value in arguments.dotted.items() if path[:2] == ("exp", "train")
    }
    arguments.notices.extend(settle_training(run, given))


def _resolved(document: Document, arguments: Arguments) -> Document:
    resolved = resolve(document, arguments.variables)
    name_language_models(resolved)
    return resolved


def _validate(resolved: Document) -> RunConfig:
    checked, problems = _checked(resolved)
    if not problems:
        try:
            config = RunConfig.model_validate(checked)
            if config.exp.compare is not None:
                comparison_curve(config)
            return config
        except ValidationError as error:
            problems += [details["msg"].removeprefix("Value error, ") for details in error.errors()]
    raise _problems(problems)


def _checked(resolved: Document) -> tuple[dict[str, BaseModel], list[str]]:
    """The sections that are there and right, and what is wrong with the others."""
    checked: dict[str, BaseModel] = {}
    problems: list[str] = []
    for kind, section in SECTIONS.items():
        try:
            if kind in resolved.data:
                checked[kind] = section.model_validate(resolved.data[kind])
        except ValidationError as error:
            problems += explain(error, section, resolved, kind)
    return checked, problems


def _problems(found: Sequence[str]) -> ConfigError:
    problems = list(dict.fromkeys(found))
    head = "" if len(problems) == 1 else f"{len(problems)} invalid settings:\n  "
    return ConfigError(head + "\n  ".join(problems))


def _missing_option(kind: str) -> str:
    other = "; or give --item, --user and --predictor" if kind == "model" else ""
    usual = "usually `--exp tt` (train and test); " if kind == "exp" else ""
    known = f"{some(names_of(kind))}; `legos list {kind}` shows all"
    return f"--{kind}: missing; {usual}choose from: {known} (or the path of a YAML){other}"
