"""Reading a YAML with the line of every key; ``$$import`` brings in other files.

Types are those of YAML 1.2 (``legos.config.yaml_files``). Files are opened read-only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import Resolver
from yaml.scanner import Scanner

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


LARGEST_FILE = 2**20
"""Bytes of a YAML."""
LONGEST_TEXT = 10_000
"""Characters of a value."""
MOST_VALUES = 50_000
"""Values of a document with every anchor written out."""
DEEPEST = 50
"""Levels of nesting."""

_NUMBER_STARTS = list("-+.0123456789")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Refused(yaml.MarkedYAMLError):
    """YAML that may be valid, but is none of a configuration."""


class _Bounded(Composer, SafeConstructor, Resolver):
    """Composes events of a parser into values; all errors are ``yaml.MarkedYAMLError``."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def __init__(self) -> None:
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)
        self._sizes: dict[int, int] = {}  # by id of a finished node, values below and in it
        self._depths: dict[int, int] = {}  # ... and levels
        self._level = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """A node, refused where it or what an alias adds to it is too large."""
        event: Any = self.peek_event()  # type: ignore[attr-defined]
        mark = event.start_mark
        self._level += 1
        if self._level > DEEPEST:
            raise _refusal(f"nested more than {DEEPEST} levels deep", mark)
        if getattr(event, "tag", None) not in (None, "!", "tag:yaml.org,2002:str"):
            raise _refusal(f"tag {event.tag!r} is not read; write the value without it", mark)
        node: Any = super().compose_node(parent, index)
        self._level -= 1
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._sizes:
                raise _refusal(f"*{event.anchor}: an anchor that contains itself", mark)
            return node  # type: ignore[no-any-return]
        self._weigh(node, mark)
        return node  # type: ignore[no-any-return]

    def _weigh(self, node: Any, mark: Any) -> None:
        if isinstance(node, yaml.ScalarNode):
            refuse_text(node.value, mark)
            self._sizes[id(node)], self._depths[id(node)] = size_of(node.value), 1
            return
        if isinstance(node, yaml.MappingNode):
            below = [part for pair in node.value for part in pair]
        else:
            below = node.value
        size = 1 + sum(self._sizes[id(part)] for part in below)
        depth = 1 + max((self._depths[id(part)] for part in below), default=0)
        if size > MOST_VALUES:
            raise _refusal(f"more than {MOST_VALUES:,} values once anchors are written out", mark)
        if depth > DEEPEST:
            raise _refusal(f"nested more than {DEEPEST} levels deep by its anchors", mark)
        self._sizes[id(node)], self._depths[id(node)] = size, depth

    def construct_number(self, node: yaml.ScalarNode) -> int:
        """A whole number; Python reads none of more than a few thousand digits."""
        try:
            return int(node.value)
        except ValueError:
            found = f"a number of {len(node.value):,} digits"
            raise _refusal(found, node.start_mark) from None


class CoreLoader(Reader, Scanner, Parser, _Bounded):
    """Reads one document in Python.

    Args:
        stream: the text.
    """

    def __init__(self, stream: str) -> None:
        Reader.__init__(self, stream)
        Scanner.__init__(self)
        Parser.__init__(self)
        _Bounded.__init__(self)


def compose(text: str) -> tuple[yaml.Node | None, Callable[[], Any]]:
    """The root of a document, and what makes its value (merge keys change the nodes).

    Raises:
        yaml.YAMLError: no YAML, or larger than any configuration; the value raises it, too.
    """
    if FastLoader is not None:
        with suppress(yaml.YAMLError):
            return _composed(FastLoader(text))
    return _composed(CoreLoader(text))


def read_value(text: str) -> Any:
    """The value of a document, read in Python.

    Raises:
        yaml.YAMLError: as ``compose``.
    """
    _, construct = _composed(CoreLoader(text))
    return construct()


def _composed(loader: Any) -> tuple[yaml.Node | None, Callable[[], Any]]:
    node = loader.get_single_node()
    return node, lambda: None if node is None else loader.construct_document(node)


def size_of(text: str) -> int:
    """How many values a text counts for."""
    return 1 + len(text) // 100


def refuse_text(text: str, mark: Any = None) -> None:
    """Raise :class:`Refused` for a text that no file could hold, or far too long a one."""
    if len(text) > LONGEST_TEXT:
        raise _refusal(f"a value of {len(text):,} characters; at most {LONGEST_TEXT:,}", mark)
    if _SURROGATE.search(text):
        raise _refusal("half a character (an unpaired surrogate)", mark)


def _refusal(problem: str, mark: Any) -> Refused:
    return Refused(problem=problem, problem_mark=mark)


_Bounded.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Bounded.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
_Bounded.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), _NUMBER_STARTS
)
_Bounded.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.inf|\.nan)$"
    ),
    _NUMBER_STARTS,
)
_Bounded.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])
_Bounded.add_constructor(  # type: ignore[type-var]
    "tag:yaml.org,2002:int", _Bounded.construct_number
)


def _fast_loader() -> Any:
    """The loader over libyaml's parser; None where PyYAML was built without it."""
    if not yaml.__with_libyaml__:
        return None
    from yaml import _yaml

    parser: Any = _yaml.CParser

    def initialise(self: Any, stream: str) -> None:
        parser.__init__(self, stream)
        _Bounded.__init__(self)

    return type("FastLoader", (_Bounded, parser), {"__init__": initialise})


FastLoader = _fast_loader()
