"""The values of YAMLs with the line of every key.

A mapping may import other files by ``$$import``, shipped ones as ``legos:model/naml.yaml``. Types
are those of YAML 1.2, and what is larger than any configuration is refused: YAML 1.1 makes ``on``
true, ``007`` seven, ``1:30`` ninety and ``1e-3`` a text; a few lines of anchors may stand for
millions of values. Files are opened read-only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from os.path import normpath
from pathlib import Path
from typing import Any

import yaml
from yaml._yaml import CParser
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import Resolver
from yaml.scanner import Scanner

from legos.errors import ConfigError, nearest
from legos.home import home

_LEGOS = Path(__file__).resolve().parents[1]
_INSTALLED = _LEGOS / "shipped"
CONFIG_FOLDER = _INSTALLED if _INSTALLED.is_dir() else _LEGOS.parent / "config"
"""Of the shipped YAMLs: ``config/`` of a checkout, which a wheel has as ``legos/shipped/``."""
SHIPPED = "legos:"
"""What the names of shipped YAMLs begin with, wherever the working directory is."""
KINDS = ("data", "model", "exp", "embed")
FAMILIES = ("item", "user", "predictor")
"""Of bricks: the keys of a model section that hold one."""
IMPORT = "$$import"
MOST_FILES = 100
"""That a YAML may import, those that its imports import included."""
LARGEST_FILE = 2**20
"""Bytes of a YAML."""
LONGEST_TEXT = 10_000
"""Characters of a value."""
MOST_VALUES = 50_000
"""Values of a document with every anchor written out."""
DEEPEST = 50
"""Levels of nesting."""
KeyPath = tuple[str, ...]
_SHOWN = 60  # characters of a value in an error
ENDINGS = (".yaml", ".yml")
_OF_HOME = re.compile(r"^(?:\$\{\w+:)?(?=(?:data|runs|cache)/)")
_SURROGATE = re.compile("[\ud800-\udfff]")


def shown(path: Path) -> str:
    """A path as errors print it: relative to the current folder, ``legos:...``, or as it is."""
    absolute, here = Path(normpath(path.absolute())), Path.cwd()
    if absolute.is_relative_to(here):
        return absolute.relative_to(here).as_posix()
    if absolute.is_relative_to(CONFIG_FOLDER):
        return SHIPPED + absolute.relative_to(CONFIG_FOLDER).as_posix()
    return str(path)


def is_shipped(file: str) -> bool:
    """Whether a file, as :func:`shown` shows it, is a shipped YAML."""
    return file.startswith(SHIPPED) or Path(file).absolute().is_relative_to(CONFIG_FOLDER)


def shipped_file(name: str) -> Path:
    """The path of ``legos:model/naml.yaml``; there need not be such a file.

    Raises:
        ConfigError: it leads out of the shipped YAMLs.
    """
    path = CONFIG_FOLDER / name.removeprefix(SHIPPED)
    if not Path(normpath(path)).is_relative_to(CONFIG_FOLDER):
        raise ConfigError(f"{name}: expected the like of {SHIPPED}model/naml.yaml")
    return path


def yaml_files(folder: Path) -> list[Path]:
    """All YAMLs below a folder, in the order of their names without ending."""
    found = (path for path in folder.rglob("*") if path.suffix in ENDINGS)
    return sorted(found, key=lambda path: path.with_suffix(""))


def nearest_file(path: Path) -> str:
    """The tail of an error: what lies where there is no file of a path."""
    if not path.parent.is_dir():
        return f"there is no folder {shown(path.parent)} either"
    known = sorted(file.name for file in path.parent.iterdir() if file.suffix in ENDINGS)
    return nearest(path.name, known) if known else f"folder {shown(path.parent)} holds no YAML"


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

    def part(self, prefix: KeyPath) -> Document:
        """A copy of what lies below a key path."""
        depth = len(prefix)
        places = {path[depth:]: at for path, at in self.places.items() if path[:depth] == prefix}
        return Document(deepcopy(value_at(self.data, prefix)), places)

    def put(self, prefix: KeyPath, section: Document) -> None:
        """Place a document below a key path whose parent is there, instead of what stood there."""
        parent, key = value_at(self.data, prefix[:-1]), prefix[-1]
        parent[int(key) if isinstance(parent, list) else key] = section.data
        self.forget(prefix)
        self.places.update({(*prefix, *path): place for path, place in section.places.items()})

    def forget(self, prefix: KeyPath) -> None:
        """Drop the places of a key path and of all below it."""
        for path in [path for path in self.places if path[: len(prefix)] == prefix]:
            del self.places[path]


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


def texts(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Every text in a tree with its key path; keys are texts, too."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, below in value.items():
            yield (*path, key), key
            yield from texts(below, (*path, key))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from texts(below, (*path, str(index)))


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """A tree with every text changed; keys stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: map_texts(below, change) for key, below in value.items()}
    if isinstance(value, list):
        return [map_texts(below, change) for below in value]
    return value


def leaves(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Every value in a tree of mappings with its key path; a list and an empty mapping are one."""
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from leaves(below, (*path, str(key)))
    else:
        yield path, value


class MissingFile(ConfigError):
    """There is no such file as one that a YAML imports.

    Args:
        path: of the file.
        place: of the import.
    """

    def __init__(self, path: Path, place: str) -> None:
        hint = nearest_file(path)
        same = sorted(file for file in yaml_files(CONFIG_FOLDER) if file.name == path.name)
        if same and not is_shipped(shown(path)):
            hint = f"the shipped one is {SHIPPED}{same[0].relative_to(CONFIG_FOLDER).as_posix()}"
        super().__init__(f"{place}: {shown(path)}: no such file; {hint}")
        self.path, self.place = path, place


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
    parsed = _parsed(shown(path), _text(path))
    own = Document(_unshared(parsed.data), dict(parsed.places))
    imported = own.data.pop(IMPORT, [])
    if home() != Path():
        own = Document(map_texts(own.data, _at_home), own.places)
    merged = Document({}, {})
    for name in imported if isinstance(imported, list) else [imported]:
        where = own.place((IMPORT,))
        if not isinstance(name, str):
            raise ConfigError(f"{where}: {IMPORT} takes file names, found {name!r}")
        file = shipped_file(name) if name.startswith(SHIPPED) else path.parent / name
        if not file.is_file():
            raise MissingFile(file, where)
        merge(merged, _read(file, (*chain, path.resolve()), read))
    merge(merged, own)
    return merged


def _at_home(text: str) -> str:
    """A path below ``data/``, ``runs/`` or ``cache/``, also as a default, below ``LEGOS_HOME``."""
    return _OF_HOME.sub(lambda found: f"{found[0]}{home().as_posix()}/", text)


def _text(path: Path) -> str:
    if not path.is_file():
        raise ConfigError(f"{shown(path)}: no such file; {nearest_file(path)}")
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


@lru_cache(maxsize=256)
def _parsed(file: str, text: str) -> Document:
    """A file, parsed once a process; what an anchor names is still one object."""
    try:
        try:
            data, places = _composed(FastLoader(text), file)
        except yaml.YAMLError:  # Python's parser tells more
            data, places = _composed(CoreLoader(text), file)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{file}{_problem(error)}") from None
    if data is None:
        raise ConfigError(f"{file}: empty; expected keys and values")
    if not isinstance(data, dict):
        raise ConfigError(f"{file}: expected keys and values, found a {type(data).__name__}")
    return Document(data, {(): file, **places})


def _composed(loader: Any, file: str) -> tuple[Any, dict[KeyPath, str]]:
    node = loader.get_single_node()
    if node is None:
        return None, {}
    places = dict(_places(node, file))  # before merge keys change the nodes
    return loader.construct_document(node), places


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


def parse_value(text: str) -> Any:
    """The value of a command-line text by the rules of a YAML: ``1e-3``, ``[1, 2]``, ``null``.

    Only ``[``, ``{`` and quotes are syntax; any other text is one scalar, whatever it holds.

    Raises:
        ConfigError: brackets or quotes that do not close, or larger than any configuration.
    """
    try:
        if text[:1] in ("[", "{", '"', "'"):
            return CoreLoader(text).get_single_data()
        _refuse_text(text)
        loader = CoreLoader("")
        tag = loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        return loader.construct_object(yaml.ScalarNode(tag, text))
    except (yaml.YAMLError, RecursionError) as error:
        found = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        raise ConfigError(f"{found!r} is not a YAML value: {_problem(error)}") from None


def _problem(error: BaseException) -> str:
    """ ":line: what" of a parser's error."""
    if isinstance(error, RecursionError):
        return ": nested too deeply"
    line, what = "", str(error)
    if isinstance(error, yaml.MarkedYAMLError):
        line = f":{error.problem_mark.line + 1}" if error.problem_mark is not None else ""
        what = error.problem or what
    return f"{line}: {what}" if isinstance(error, _Refused) else f"{line}: not valid YAML: {what}"


class _Refused(yaml.MarkedYAMLError):
    """YAML that may be valid, but is none of a configuration."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem=problem, problem_mark=mark)


def size_of(text: str) -> int:
    """How many values a text counts for."""
    return 1 + len(text) // 100


def _refuse_text(text: str, mark: Any = None) -> None:
    if len(text) > LONGEST_TEXT:
        raise _Refused(f"a value of {len(text):,} characters; at most {LONGEST_TEXT:,}", mark)
    if _SURROGATE.search(text):
        raise _Refused("half a character (an unpaired surrogate)", mark)


class _Bounded(Composer, SafeConstructor, Resolver):
    """Composes events of a parser into values; all errors are ``yaml.MarkedYAMLError``."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def __init__(self) -> None:
        Composer.__init__(self)
        SafeConstructor.__init__(self)
        Resolver.__init__(self)
        self._sizes: dict[int, tuple[int, int]] = {}  # by id of a node, values and levels of it
        self._level = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """A node, refused where it or what an alias adds to it is too large."""
        event: Any = self.peek_event()  # type: ignore[attr-defined]
        mark = event.start_mark
        self._level += 1
        if self._level > DEEPEST:
            raise _Refused(f"nested more than {DEEPEST} levels deep", mark)
        if getattr(event, "tag", None) not in (None, "!", "tag:yaml.org,2002:str"):
            raise _Refused(f"tag {event.tag!r} is not read; write the value without it", mark)
        node: Any = super().compose_node(parent, index)
        self._level -= 1
        if not isinstance(event, yaml.AliasEvent):
            self._sizes[id(node)] = self._weigh(node, mark)
        elif id(node) not in self._sizes:
            raise _Refused(f"*{event.anchor}: an anchor that contains itself", mark)
        return node  # type: ignore[no-any-return]

    def _weigh(self, node: Any, mark: Any) -> tuple[int, int]:
        if isinstance(node, yaml.ScalarNode):
            _refuse_text(node.value, mark)
            return size_of(node.value), 1
        pairs = isinstance(node, yaml.MappingNode)
        below = [part for pair in node.value for part in pair] if pairs else node.value
        size = 1 + sum(self._sizes[id(part)][0] for part in below)
        depth = 1 + max((self._sizes[id(part)][1] for part in below), default=0)
        if size > MOST_VALUES:
            raise _Refused(f"more than {MOST_VALUES:,} values once anchors are written out", mark)
        if depth > DEEPEST:
            raise _Refused(f"nested more than {DEEPEST} levels deep by its anchors", mark)
        return size, depth

    def construct_number(self, node: yaml.ScalarNode) -> int:
        """A whole number; Python reads none of more than a few thousand digits."""
        try:
            return int(node.value)
        except ValueError:
            found = f"a number of {len(node.value):,} digits"
            raise _Refused(found, node.start_mark) from None


class CoreLoader(Reader, Scanner, Parser, _Bounded):
    """Reads one document in Python."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        _Bounded.__init__(self)


class FastLoader(_Bounded, CParser):
    """Reads one document by libyaml's parser."""

    def __init__(self, text: str) -> None:
        CParser.__init__(self, text)
        _Bounded.__init__(self)


_NUMBER = list("-+.0123456789")
_FLOAT = (
    r"^(?:[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.inf|\.nan)$"
)
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", _NUMBER),
    ("float", _FLOAT, _NUMBER),
    ("merge", r"^<<$", ["<"]),
):
    _Bounded.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
_Bounded.add_constructor(  # type: ignore[type-var]
    "tag:yaml.org,2002:int", _Bounded.construct_number
)
