"""Reading a YAML with the line of every key; ``$$import`` brings in other files.

Types are those of YAML 1.2 (``legos.config.loader``). Files are opened read-only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from legos.config.loader import LARGEST_FILE, CoreLoader, Refused, compose, read_value, refuse_text
from legos.config.locations import shown, suggest_file
from legos.errors import ConfigError

IMPORT = "$$import"
MOST_FILES = 100
"""That a YAML may import, those that its imports import included."""
KeyPath = tuple[str, ...]
_SHOWN = 60  # characters of a value in an error


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

    def part(self, prefix: KeyPath) -> Document:
        """A copy of what lies below a key path."""
        depth = len(prefix)
        places = {path[depth:]: at for path, at in self.places.items() if path[:depth] == prefix}
        return Document(deepcopy(_at(self.data, prefix)), places)

    def put(self, prefix: KeyPath, section: Document) -> None:
        """Place a document below a key path whose parent is there, instead of what stood there."""
        parent, key = _at(self.data, prefix[:-1]), prefix[-1]
        parent[int(key) if isinstance(parent, list) else key] = section.data
        for path in [path for path in self.places if path[: len(prefix)] == prefix]:
            del self.places[path]
        self.places.update(section.below(prefix))


def _at(value: Any, path: KeyPath) -> Any:
    for key in path:
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def read_document(path: Path) -> Document:
    """Read a YAML and what it imports; its own keys win over imported ones.

    Args:
        path: the file, ``.yaml`` or ``.yml``.

    Raises:
        ConfigError: missing, empty, not UTF-8, not YAML, not a mapping, a key twice, a circle, or
            larger than any configuration.
    """
    return _read(path, (), [])


def _read(path: Path, chain: tuple[Path, ...], read: list[Path]) -> Document:
    """``read_document`` below the files of ``chain``; ``read`` is told of every file."""
    if path.resolve() in chain:
        circle = " → ".join(shown(file) for file in (*chain, path))
        raise ConfigError(f"{shown(chain[-1])}: {IMPORT} goes round in a circle: {circle}")
    read.append(path)
    if len(read) > MOST_FILES:
        raise ConfigError(f"{shown(chain[0])}: {IMPORT} brings in more than {MOST_FILES} files")
    own = _parse(path)
    imported = own.data.pop(IMPORT, [])
    names = imported if isinstance(imported, list) else [imported]
    merged = Document({}, {})
    for name in names:
        if not isinstance(name, str):
            where = own.place((IMPORT,))
            raise ConfigError(f"{where}: {IMPORT} takes file names, found {name!r}")
        merge(merged, _read(path.parent / name, (*chain, path.resolve()), read))
    merge(merged, own)
    return merged


def parse_value(text: str) -> Any:
    """The value of a command-line text by the rules of a YAML: ``1e-3``, ``[1, 2]``, ``null``.

    Only ``[``, ``{`` and quotes are syntax; any other text is one scalar, whatever it holds.

    Raises:
        ConfigError: brackets or quotes that do not close, or larger than any configuration.
    """
    try:
        if text[:1] in ("[", "{", '"', "'"):
            return read_value(text)
        refuse_text(text)
        loader = CoreLoader("")
        tag = loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        return loader.construct_object(yaml.ScalarNode(tag, text))
    except (yaml.YAMLError, RecursionError) as error:
        found = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        raise ConfigError(f"{found!r} is not a YAML value: {_problem(error)}") from None


def _parse(path: Path) -> Document:
    parsed = _parsed(shown(path), _text(path))
    return Document(_unshared(parsed.data), dict(parsed.places))


@lru_cache(maxsize=256)
def _parsed(file: str, text: str) -> Document:
    """A file, parsed once a process."""
    try:
        node, construct = compose(text)
        places = dict(_places(node, file)) if node is not None else {}
        data = _unshared(construct())
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{file}{_problem(error)}") from None
    if data is None:
        raise ConfigError(f"{file}: empty; expected keys and values")
    if not isinstance(data, dict):
        raise ConfigError(f"{file}: expected keys and values, found a {type(data).__name__}")
    return Document(data, {(): file, **places})


def _text(path: Path) -> str:
    """What stands in a file."""
    if not path.is_file():
        raise ConfigError(f"{shown(path)}: no such file; {suggest_file(path)}")
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise ConfigError(
                f"{shown(path)}: larger than {LARGEST_FILE:,} bytes; no configuration"
            )
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{shown(path)}: not UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise ConfigError(f"{shown(path)}: {error.strerror}") from None


def _unshared(value: Any) -> Any:
    """A copy in which what an anchor named stands at every place by itself."""
    if isinstance(value, dict):
        return {key: _unshared(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_unshared(below) for below in value]
    return value


def _places(node: yaml.Node, file: str, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """The line of every key below a node."""
    if isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*path, str(index)), f"{file}:{value.start_mark.line + 1}"
            yield from _places(value, file, (*path, str(index)))
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            place = f"{file}:{key.start_mark.line + 1}"
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
            yield from _places(value, file, (*path, key.value))


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
    if isinstance(error, RecursionError):
        return ": nested too deeply"
    line, what = "", str(error)
    if isinstance(error, yaml.MarkedYAMLError):
        line = f":{error.problem_mark.line + 1}" if error.problem_mark is not None else ""
        what = error.problem or what
    return f"{line}: {what}" if isinstance(error, Refused) else f"{line}: not valid YAML: {what}"


def value_at(value: Any, path: Sequence[str]) -> Any:
    """What lies at a key path of mappings and lists; None where nothing does."""
    for key in path:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list | tuple) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value
