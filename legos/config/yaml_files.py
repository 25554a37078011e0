"""The values of YAMLs with the line of every key.

A mapping may import other files by ``$$import``, shipped ones as ``legos:model/naml.yaml``. Files
are opened read-only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from os.path import normpath
from pathlib import Path
from typing import Any

import yaml

from legos.config.document import Document, KeyPath, map_texts, merge
from legos.config.yaml_loader import CoreLoader, FastLoader, Refused, refuse_text
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
_SHOWN = 60  # characters of a value in an error
ENDINGS = (".yaml", ".yml")
_OF_HOME = re.compile(r"^(?:\$\{\w+:)?(?=(?:data|runs|cache)/)")


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
        refuse_text(text)
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
    return f"{line}: {what}" if isinstance(error, Refused) else f"{line}: not valid YAML: {what}"
