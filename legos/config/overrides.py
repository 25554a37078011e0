"""The command line: which YAMLs, ``--variable value`` and ``--a.b.c value``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from legos.config.locations import FAMILIES, KINDS
from legos.config.old_variables import translate
from legos.config.sections import kinds_of
from legos.config.yaml_files import Document, KeyPath, parse_value
from legos.errors import ConfigError, nearest

COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Arguments:
    """What a command line asks for.

    Attributes:
        yamls: file or bare name by kind: data, model, exp, embed.
        config: the file of a whole configuration, by each kind that it has and ``yamls`` has not.
        bricks: the name of a brick by family: item, user, predictor.
        variables: values of ``${...}``.
        dotted: values by key path; the first key is a kind.
        notices: of names that are read as others.
    """

    yamls: dict[str, str] = field(default_factory=dict)
    config: dict[str, str] = field(default_factory=dict)
    bricks: dict[str, str] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    dotted: dict[KeyPath, Any] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    @property
    def sections(self) -> dict[str, str]:
        """File or bare name of every section that is given."""
        return {**self.config, **self.yamls}


def read_options(argv: Sequence[str]) -> dict[str, str]:
    """``--key value`` and ``--key=value`` pairs; a value may begin with one dash (``-4``).

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
                raise ConfigError(f"--{name}: needs a value (--{name}=... if it begins with --)")
        if name in options:
            raise ConfigError(f"--{name}: given twice, {options[name]!r} and {value!r}")
        options[name] = value
    return options


def read_arguments(argv: Sequence[str]) -> Arguments:
    """Sort a command line into YAMLs, variables and dotted overrides; values are typed.

    Raises:
        ConfigError: what ``read_options`` refuses, or a value of another kind than published.
    """
    arguments = Arguments()
    options = read_options(argv)
    for given, value in options.items():
        name, text = given, value
        if (old := translate(given, value, options)) is not None:
            name, text, notice = old
            arguments.notices.append(notice)
            if not name:
                continue
        first, *rest = name.split(".")
        if name in KINDS:
            arguments.yamls[name] = text
        elif name == "config":
            arguments.config.update(dict.fromkeys(kinds_of(Path(text)), str(Path(text).absolute())))
        elif name in FAMILIES:
            arguments.bricks[name] = text
        elif not rest:
            arguments.variables[name] = read_variable(name, text)
        elif first not in KINDS or "" in rest:
            raise ConfigError(f"--{name}: no such section {first!r}; {nearest(first, KINDS)}")
        else:
            try:
                arguments.dotted[first, *rest] = parse_value(text)
            except ConfigError as error:
                raise ConfigError(f"--{name}: {error}") from None
    for family in FAMILIES:
        key = ("model", family)
        if isinstance(arguments.dotted.get(key), str):
            if family in arguments.bricks:
                raise ConfigError(f"--{family}: is --model.{family}, which is given, too")
            arguments.bricks[family] = arguments.dotted.pop(key)
    return arguments


def apply_dotted(document: Document, dotted: Mapping[KeyPath, Any]) -> None:
    """Set single keys in place; keys that are not there yet are made, the schema judges them.

    Raises:
        ConfigError: a path through a value that has no keys, or beyond the end of a list.
    """
    for path, value in dotted.items():
        option = f"--{'.'.join(path)}"
        here: Any = document.data
        for depth, key in enumerate(path):
            last = depth == len(path) - 1
            if isinstance(here, list):
                if not key.isdecimal() or int(key) >= len(here):
                    raise ConfigError(
                        f"{option}: {'.'.join(path[:depth])} is a list of {len(here)}; "
                        f"{key!r} is none of 0 to {len(here) - 1}"
                    )
                index: Any = int(key)
            elif isinstance(here, dict):
                index = key
                if not last and here.get(key) is None:
                    here[key] = {}
            else:
                raise ConfigError(f"{option}: {'.'.join(path[:depth])} is {here!r}, without keys")
            if last:
                here[index] = value
            else:
                here = here[index]
        stale = [known for known in document.places if known[: len(path)] == path]
        for known in stale:
            del document.places[known]
        document.places[path] = COMMAND_LINE


def check_variables(given: Mapping[str, Any], referenced: set[str]) -> list[str]:
    """Refuse variables that mean nothing; name those that have no effect in this run.

    Args:
        given: variables of the command line.
        referenced: variables that the YAMLs of this run use.

    Returns:
        One notice for each published variable without effect.

    Raises:
        ConfigError: variables that are neither published nor used.
    """
    known = referenced | PUBLISHED.keys()
    problems = [
        f"--{name}: no YAML of this run uses ${{{name}}}; {nearest(name, known)}"
        for name in given
        if name not in known
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    return [
        f"--{name} has no effect: no YAML of this run uses ${{{name}}}"
        for name in given
        if name not in referenced
    ]


_TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True)
class Variable:
    """A published variable.

    Attributes:
        kind: how its text is read.
        default: where a YAML gives none.
        meaning: for ``--help``.
    """

    kind: Literal["text", "integer", "number", "flag"]
    default: Any
    meaning: str


PUBLISHED: dict[str, Variable] = {
    "version": Variable("text", "small", "which release of a data set (MIND: small, large)"),
    "llm_ver": Variable("text", "minilm", "language model: a name of config/llm.yaml or a path"),
    "layer": Variable("integer", 0, "layer at which it is cut and cached; 0 = no cache"),
    "lora": Variable(
        "integer", None, "LoRA: 0 = off, 1 = on, n = on with rank n; null = on, unless frozen"
    ),
    "lora_r": Variable("integer", 32, "rank of LoRA where --lora is 1 or null"),
    "lora_alpha": Variable("number", 128.0, "adapters count alpha / rank times"),
    "lora_dropout": Variable("number", 0.1, "rate on the adapters' input"),
    "embed_hidden_size": Variable("integer", None, "width E of pretrained vectors; null = found"),
    "hidden_size": Variable("integer", 64, "width D of item and user vectors"),
    "fast_eval": Variable("flag", True, "evaluate from item and user caches"),
    "lr": Variable("number", 0.001, "learning rate of all but a language model"),
    "item_lr": Variable("number", None, "learning rate of a language model; null = lr"),
    "batch_size": Variable("integer", 64, "clicks a micro-batch"),
    "acc_batch": Variable("integer", 1, "micro-batches a step (exact)"),
    "item_page_size": Variable(
        "integer", 0, "items encoded at once in training (exact gradient caching); 0 = all"
    ),
    "epoch_batch": Variable(
        "integer", 0, "0 = an epoch is a pass; n = n batches; -n = 1/n of a pass, then goes on"
    ),
    "patience": Variable("integer", 2, "epochs without improvement before training stops"),
    "page_size": Variable("integer", 512, "items and users encoded at once in a test"),
    "seed": Variable("integer", 2023, "of weights, order, negatives and dropout"),
    "device": Variable("text", "auto", "auto, cpu, cuda, cuda:1"),
    "precision": Variable("text", "fp32", "fp32, bf16 or fp16"),
}


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
        expected = "true or false" if published.kind == "flag" else f"a {published.kind}"
        expected = expected.replace("a integer", "a whole number")
        raise ConfigError(f"--{name} {text}: expected {expected} ({published.meaning})")
    return value
