"""Reading a YAML with the line of every key; ``$$import`` brings in other files.

YAML 1.2's core schema: ``1e-3`` is a number, ``on``, ``1:30`` and ``2024-01-01`` are texts (PyYAML
follows 1.1, where they are a truth value, 90 and a date). Files are opened read-only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from legos.config.locations import shown, suggest_file
from legos.errors import ConfigError

IMPORT = "$$import"
KeyPath = tuple[str, ...]


class CoreLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the implicit types of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


_NUMBER_STARTS = list("-+.0123456789")
CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), _NUMBER_STARTS
)
CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.inf|\.nan)$"
    ),
    _NUMBER_STARTS,
)
CoreLoader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])


@dataclass(frozen=True)
class Document:
    """A mapping with the place of every key.

    Attributes:
        data: plain values.
        places: "file:line" of a key path; a place of a prefix holds for what is below it.
    """

    data: dict[str, Any]
    places: dict[KeyPath, str] = field(default_factory=dict)

    def place(self, path: KeyPath) -> str:
        """Where a key stands, or the nearest key above it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return ""

    def below(self, prefix: KeyPath) -> dict[KeyPath, str]:
        """The places under a longer path."""
        return {(*prefix, *path): place for path, place in self.places.items()}


def read_document(path: Path, chain: tuple[Path, ...] = ()) -> Document:
    """Read a YAML and what it imports; its own keys win over imported ones.

    Args:
        path: the file, ``.yaml`` or ``.yml``.
        chain: files that import this one, for circles.

    Raises:
        ConfigError: missing, empty, not UTF-8, not YAML, not a mapping, a key twice, or a circle.
    """
    if path.resolve() in chain:
        circle = " → ".join(shown(file) for file in (*chain, path))
        raise ConfigError(f"{shown(chain[-1])}: {IMPORT} goes round in a circle: {circle}")
    own = _parse(path)
    imported = own.data.pop(IMPORT, [])
    names = imported if isinstance(imported, list) else [imported]
    merged = Document({}, {})
    for name in names:
        if not isinstance(name, str):
            where = own.place((IMPORT,))
            raise ConfigError(f"{where}: {IMPORT} takes file names, found {name!r}")
        merge(merged, read_document(path.parent / name, (*chain, path.resolve())))
    merge(merged, own)
    return merged


def parse_value(text: str) -> Any:
    """The value of a command-line text by the rules of a YAML: ``1e-3``, ``[1, 2]``, ``null``.

    Only ``[``, ``{`` and quotes are syntax; any other text is one scalar, whatever it holds.

    Raises:
        ConfigError: brackets or quotes that do not close.
    """
    if text[:1] in ("[", "{", '"', "'"):
        try:
            return yaml.load(text, CoreLoader)  # noqa: S506 - a SafeLoader
        except (yaml.YAMLError, RecursionError) as error:
            raise ConfigError(f"{text!r} is not a YAML value: {_problem(error)}") from None
    loader = CoreLoader("")
    tag = loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return loader.construct_object(yaml.ScalarNode(tag, text))


def _parse(path: Path) -> Document:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{shown(path)}: no such file; {suggest_file(path)}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{shown(path)}: not UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise ConfigError(f"{shown(path)}: {error.strerror}") from None
    try:
        loader = CoreLoader(text)
        node = loader.get_single_node()
        places = dict(_places(node, path)) if node is not None else {}
        data = loader.construct_document(node) if node is not None else None
    except yaml.YAMLError as error:
        raise ConfigError(f"{shown(path)}{_problem(error)}") from None
    except RecursionError:
        raise ConfigError(f"{shown(path)}: nested too deeply") from None
    if data is None:
        raise ConfigError(f"{shown(path)}: empty; expected keys and values")
    if not isinstance(data, dict):
        raise ConfigError(f"{shown(path)}: expected keys and values, found a {type(data).__name__}")
    return Document(data, {(): shown(path), **places})


def _places(
    node: yaml.Node, file: Path, path: KeyPath = (), above: tuple[yaml.Node, ...] = ()
) -> Iterator[tuple[KeyPath, str]]:
    """The line of every key below a node."""
    line = node.start_mark.line + 1
    if node in above:
        raise ConfigError(f"{shown(file)}:{line}: an anchor that contains itself")
    if isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*path, str(index)), f"{shown(file)}:{value.start_mark.line + 1}"
            yield from _places(value, file, (*path, str(index)), (*above, node))
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            place = f"{shown(file)}:{key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{place}: a key must be a word, not a list or a mapping")
            dotted = ".".join((*path, key.value))
            if key.value in seen:
                raise ConfigError(f"{place}: {dotted}: this key is given twice")
            if key.value == IMPORT and path:
                raise ConfigError(f"{place}: {dotted}: {IMPORT} is read at the top of a file only")
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                raise ConfigError(f"{place}: {dotted}: a key must be a word; put it in quotes")
            seen.add(key.value)
            yield (*path, key.value), place
            yield from _places(value, file, (*path, key.value), (*above, node))


def merge(base: Document, added: Document) -> None:
    """Put ``added`` over ``base``; mappings are merged key by key, lists and values replaced."""

    def put(below: dict[str, Any], over: dict[str, Any]) -> None:
        for key, value in over.items():
            if isinstance(value, dict) and isinstance(below.get(key), dict):
                put(below[key], value)
            else:
                below[key] = value

    put(base.data, added.data)
    base.places.update(added.places)


def _problem(error: BaseException) -> str:
    """ ":line: what" of a parser's error."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f":{error.problem_mark.line + 1}: not valid YAML: {error.problem}"
    return f": not valid YAML: {error}"
