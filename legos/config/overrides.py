"""The command line: files of sections, variables, and single keys.

``--variable value`` fills ``${variable}`` in the YAMLs, ``--a.b.c value`` sets a key itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from legos.config.document import Document, KeyPath
from legos.config.models import kinds_of
from legos.config.variables import OLD, PUBLISHED
from legos.config.yaml_files import FAMILIES, KINDS, parse_value
from legos.errors import ConfigError, nearest

COMMAND_LINE = "command line"
PLUGIN = "plugin"
_OPTIONS = (  # of the command `legos run`
    *(*KINDS, *FAMILIES, PLUGIN, "config", "load"),
    *("help", "list", "check", "processes", "save", "impressions", "news", "verbose"),
    *("verify", "prune"),
)
_TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True)
class Arguments:
    """What a command line asks for.

    Attributes:
        yamls: file or bare name by kind: data, model, exp, embed.
        config: the file of a whole configuration, by each kind that it has.
        bricks: the name of a brick by family: item, user, predictor.
        plugins: modules of ``--plugin``.
        variables: values of ``${...}``.
        dotted: values by key path; the first key is a kind.
        notices: of names that are read as others.
        in_names: variables that names of a comparison's sections use, added as they are read.
    """

    yamls: dict[str, str] = field(default_factory=dict)
    config: dict[str, str] = field(default_factory=dict)
    bricks: dict[str, str] = field(default_factory=dict)
    plugins: list[str] = field(default_factory=list)
    variables: dict[str, Any] = field(default_factory=dict)
    dotted: dict[KeyPath, Any] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    in_names: set[str] = field(default_factory=set)

    @property
    def sections(self) -> dict[str, str]:
        """File or bare name of every section that is given."""
        return {**self.config, **self.yamls}

    def of(self, kind: str) -> dict[KeyPath, Any]:
        """The dotted overrides of a section."""
        return {path: value for path, value in self.dotted.items() if path[0] == kind}


def read_options(argv: Sequence[str]) -> dict[str, str]:
    """``--key value`` and ``--key=value`` pairs; a value may begin with one dash (``-4``).

    ``--plugin`` may be given several times, and is one option with commas then.

    Raises:
        ConfigError: a word without an option, an option without a value, an option twice.
    """
    options: dict[str, str] = {}
    words = iter(argv)
    for word in words:
        if not word.startswith("--") or word == "--":
            raise ConfigError(f"{word!r}: expected an option such as --lr 0.001 or --lr=0.001")
        name, equals, value = word[2:].partition("=")
        if not equals:
            value = next(words, "--")
            if value.startswith("--"):
                meant = _option_meant(name)
                raise ConfigError(
                    meant or f"--{name}: needs a value (--{name}=... if it begins with --)"
                )
        if name == PLUGIN and name in options:
            value = f"{options[name]},{value}"
        elif name in options:
            raise ConfigError(f"--{name}: given twice, {options[name]!r} and {value!r}")
        options[name] = value
    return options


def _option_meant(name: str) -> str:
    """The message about an option that looks like one of the command's own; "" of any other."""
    close = get_close_matches(name, _OPTIONS, n=1, cutoff=0.75)
    if not close or name in _OPTIONS:
        return ""
    return f"--{name}: no such option; did you mean --{close[0]}?"


def read_arguments(argv: Sequence[str]) -> Arguments:
    """Sort a command line into YAMLs, variables and dotted overrides; values are typed.

    Raises:
        ConfigError: what ``read_options`` refuses, or a value of another kind than published.
    """
    arguments = Arguments()
    options = read_options(argv)
    for given, value in options.items():
        name, text = given, value
        if given in OLD:
            name, text, notice = _translate(given, value, options)
            arguments.notices.append(notice)
        if name:
            _sort(name, text, arguments)
    _take_brick_names(arguments)
    return arguments


def _sort(name: str, text: str, arguments: Arguments) -> None:
    """Put the value of an option in the part of ``arguments`` that its name belongs to."""
    if name in KINDS:
        arguments.yamls[name] = text
    elif name == "config":
        arguments.config.update(dict.fromkeys(kinds_of(Path(text)), str(Path(text).absolute())))
    elif name in FAMILIES:
        arguments.bricks[name] = text
    elif name == PLUGIN:
        arguments.plugins.extend(each.strip() for each in text.split(","))
    elif "." in name:
        arguments.dotted[_path(name)] = _dotted_value(name, text)
    else:
        arguments.variables[name] = read_variable(name, text)


def _path(name: str) -> tuple[str, ...]:
    """``exp.train.lr`` as a path; refuses a section that does not exist."""
    first, *rest = name.split(".")
    if first not in KINDS or "" in rest:
        raise ConfigError(f"--{name}: no such section {first!r}; {nearest(first, KINDS)}")
    return (first, *rest)


def _dotted_value(name: str, text: str) -> Any:
    try:
        return parse_value(text)
    except ConfigError as error:
        raise ConfigError(f"--{name}: {error}") from None


def _take_brick_names(arguments: Arguments) -> None:
    """Read ``--model.item cnn`` as ``--item cnn``."""
    for family in FAMILIES:
        key = ("model", family)
        if not isinstance(arguments.dotted.get(key), str):
            continue
        if family in arguments.bricks:
            raise ConfigError(
                f"--{family}: means --model.{family}, which is also given; remove one of them"
            )
        arguments.bricks[family] = arguments.dotted.pop(key)


def _translate(name: str, text: str, given: Iterable[str]) -> tuple[str, str, str]:
    """Name and value that an old variable has here, empty where it asks for nothing; a notice."""
    old = OLD[name]
    if text.strip().lower() in old.off:
        return "", "", f"--{name} {text} has no effect"
    if old.now is None:
        raise ConfigError(f"--{name}: not supported; {old.instead}")
    if old.now in given:
        raise ConfigError(f"--{name}: is now --{old.now}, which is also given; remove one of them")
    value = old.read(text)
    return old.now, value, f"--{name} {text}: read as --{old.now} {value}"


def read_variable(name: str, text: str) -> Any:
    """The value of ``--name text``.

    Raises:
        ConfigError: not of the kind that the published variable has.
    """
    published = PUBLISHED.get(name)
    if published is None:
        return parse_value(text)
    if published.kind == "text":
        return text
    value = parse_value(text)
    if value is None and published.default is None:
        return None
    if published.kind == "flag":
        value = _TRUTH.get(text.lower())
        valid = value is not None
    else:
        kinds = (int,) if published.kind == "integer" else (int, float)
        valid = isinstance(value, kinds) and not isinstance(value, bool)
    if not valid:
        expected = {"flag": "true or false", "integer": "a whole number"}
        found = expected.get(published.kind, "a number")
        raise ConfigError(f"--{name} {text}: expected {found} ({published.meaning})")
    return value


def check_variables(given: Mapping[str, Any], referenced: set[str]) -> list[str]:
    """Refuse variables that no YAML uses.

    Args:
        given: variables of the command line.
        referenced: variables that the YAMLs of this run use.

    Returns:
        One notice for each published variable without effect.

    Raises:
        ConfigError: variables that are neither published nor used.
    """
    known = referenced | PUBLISHED.keys()
    without = [name for name in given if name not in referenced]
    unknown = [name for name in without if name not in known]
    if unknown:
        raise ConfigError(
            "\n".join(
                _option_meant(name)
                or f"--{name}: no YAML of this run uses ${{{name}}}; {nearest(name, known)}"
                for name in unknown
            )
        )
    return [f"--{name} has no effect: no YAML of this run uses ${{{name}}}" for name in without]


def apply_dotted(
    document: Document, dotted: Mapping[KeyPath, Any], place: str = COMMAND_LINE
) -> None:
    """Set single keys in place; keys that are not there yet are made, the schema judges them.

    Args:
        document: whose keys are set.
        dotted: values by key path.
        place: where they are given.

    Raises:
        ConfigError: a path through a value that has no keys, or beyond the end of a list.
    """
    for path, value in dotted.items():
        key = ".".join(path)
        option = f"--{key}" if place == COMMAND_LINE else f"{place}: {key}"
        here: Any = document.data
        for depth, name in enumerate(path):
            last = depth == len(path) - 1
            if isinstance(here, list):
                if not name.isdecimal() or int(name) >= len(here):
                    raise ConfigError(
                        f"{option}: {'.'.join(path[:depth])} is a list of {len(here)}; "
                        f"{name!r} is not an index from 0 to {len(here) - 1}"
                    )
                index: Any = int(name)
            elif isinstance(here, dict):
                index = name
                if not last and here.get(name) is None:
                    here[name] = {}
            else:
                raise ConfigError(
                    f"{option}: {'.'.join(path[:depth])} is {here!r}, which has no keys"
                )
            if last:
                here[index] = value
            else:
                here = here[index]
        document.forget(path)
        document.places[path] = place
