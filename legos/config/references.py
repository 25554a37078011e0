"""``${...}`` in the YAMLs, which variables of the command line fill.

refconfig resolves ``${a.b}``, ``${x:default}`` and ``${x}$``. It uses smartdict, whose errors name
neither file nor line, which takes ``${items}`` for the method of that name, and which lets
references double at every line. So errors are worded here, names of methods are refused, and so is
what becomes larger than any configuration.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from refconfig import RefConfig
from smartdict import (
    CircularReferenceError,
    ComponentWithValue,
    PipelineStageError,
    ReferenceNotFoundError,
    SmartDict,
)
from smartdict import Path as KeyChain

from legos.config.document import Document, KeyPath, map_texts, texts
from legos.config.variables import PUBLISHED
from legos.config.yaml_files import KINDS
from legos.config.yaml_loader import LONGEST_TEXT, MOST_VALUES, size_of
from legos.errors import ConfigError, nearest

_REFERENCE = re.compile(r"\$\{([^${}:|]+)")
_METHODS = {name for kind in (dict, list, str) for name in dir(kind)}


def referenced_variables(data: Any) -> set[str]:
    """The variables that ``${...}`` in any value name, sections of the YAMLs left out."""
    names = (name for _, text in texts(data) for name in _REFERENCE.findall(text))
    return {name.split(".")[0] for name in names} - set(KINDS)


def resolve(document: Document, variables: Mapping[str, Any]) -> Document:
    """Replace every reference by what it refers to.

    Args:
        document: the sections of a run and where their keys stand.
        variables: from the command line; they win over defaults in the YAML.

    Raises:
        ConfigError: references to nothing (all of them at once), in a circle, or not closed.
    """
    _refuse_method_names(document)
    data = map_texts(document.data, lambda text: _with_published_default(text, variables))
    try:
        resolved = _BoundedConfig().add_raw({**variables, **data}).parse()
    except ReferenceNotFoundError as error:
        problems = [_missing(document, each.path, each.reference) for each in error.unresolved]
        raise ConfigError("\n".join(dict.fromkeys(problems))) from None
    except _TooLarge as error:
        last = error.path.rpartition(" → $ → ")[2]  # of a chain of references
        raise ConfigError(f"{_location(document, last)}: {error}") from None
    except CircularReferenceError as error:
        raise ConfigError(_circle(document, error.ref_string)) from None
    except RecursionError:
        first = next(path for path, text in texts(document.data) if "${" in text)
        where = _location(document, first)
        raise ConfigError(f"{where}: references lead to references too many times") from None
    except PipelineStageError as error:
        where = _location(document, error.path)
        raise ConfigError(f"{where}: |{error.stage} of {error.value!r}: {error}") from None
    except ValueError:
        raise ConfigError(_unclosed(document)) from None
    sections = {kind: value for kind, value in resolved.items() if kind in document.data}
    return Document(sections, document.places)


class _TooLarge(Exception):
    """The value of a reference is larger than any configuration; the path is smartdict's."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


class _BoundedConfig(RefConfig):  # type: ignore[misc]
    """refconfig, stopped where references make a value or the whole too large."""

    def parse(self) -> Any:
        """Resolve the one mapping that was added."""
        (config,) = self.configs
        return _BoundedDict(config.value).parse()


class _BoundedDict(SmartDict):  # type: ignore[misc]
    """smartdict, stopped where references make a value or the whole too large."""

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__(data)
        self._sizes: dict[int, int] = {}  # by id of a list or mapping, the values in it
        self._kept: list[Any] = []  # so that no id is used twice
        self._path = ""  # of the text that is resolved

    def deep_resolve(self, obj: Any, path: KeyChain | None = None) -> ComponentWithValue:
        """A value without references."""
        found = super().deep_resolve(obj, path)
        value = found.final
        if isinstance(value, dict | list) and id(value) not in self._sizes:
            parts = value.values() if isinstance(value, dict) else value
            size = 1 + sum(self._size(part) for part in parts)
            if size > MOST_VALUES:
                raise _TooLarge(str(path), f"references make more than {MOST_VALUES:,} values")
            self._sizes[id(value)] = size
            self._kept.append(value)
        return found

    def _size(self, value: Any) -> int:
        return size_of(value) if isinstance(value, str) else self._sizes.get(id(value), 1)

    def _resolve_string(
        self, obj: str, path: KeyChain, raw_single_ref: bool = False
    ) -> ComponentWithValue:
        outer, self._path = self._path, str(path)
        found = super()._resolve_string(obj, path, raw_single_ref)
        self._refuse_long(found.final)
        self._path = outer
        return found

    def _stringify_resolved_part(self, value: Any, for_ref: bool = False) -> str:
        text: str = super()._stringify_resolved_part(value, for_ref)
        self._refuse_long(text)
        return text

    def _refuse_long(self, text: Any) -> None:
        if isinstance(text, str) and len(text) > LONGEST_TEXT:
            long = f"references make a text of more than {LONGEST_TEXT:,} characters"
            raise _TooLarge(self._path, long)


def _with_published_default(text: str, variables: Mapping[str, Any]) -> str:
    """``${lr}`` becomes ``${lr:0.001}`` where the command line gives no ``lr``."""
    for name in _REFERENCE.findall(text):
        if name in PUBLISHED and name not in variables:
            default = json.dumps(PUBLISHED[name].default)
            text = text.replace(f"${{{name}}}", f"${{{name}:{default}}}")
    return text


def _missing(document: Document, path: str, reference: str) -> str:
    where = _location(document, path)
    first, *rest = reference.split(".")
    if not rest or first not in document.data:
        return (
            f"{where}: needs variable {reference!r}, which has no default; give --{reference} VALUE"
        )
    parent: Any = document.data
    for key in (first, *rest):
        if not isinstance(parent, dict) or key not in parent:
            break
        parent = parent[key]
    known = parent if isinstance(parent, dict) else {}
    return f"{where}: ${{{reference}}} refers to nothing; {nearest(rest[-1], known)}"


def _circle(document: Document, name: str) -> str:
    users = [
        _location(document, path)
        for path, text in texts(document.data)
        if not name or name in _REFERENCE.findall(text)
    ]
    return f"{', '.join(users)}: ${{{name}}} refers to itself, directly or through others"


def _unclosed(document: Document) -> str:
    for path, text in texts(document.data):
        if text.count("${") > text.count("}"):
            return f"{_location(document, path)}: {text!r} has a ${{ that is not closed"
    return "a ${...} of the YAMLs cannot be read"


def _refuse_method_names(document: Document) -> None:
    for path, text in texts(document.data):
        for name in _REFERENCE.findall(text):
            here: Any = document.data
            for key in name.split("."):
                here = here.get(key) if isinstance(here, dict) else None
                if here is None and key in _METHODS:
                    raise ConfigError(
                        f"{_location(document, path)}: ${{{name}}}: {key!r} cannot be the name of "
                        "a variable, because Python's own types use it"
                    )


def _location(document: Document, path: KeyPath | str) -> str:
    """Place and dotted key; a text is smartdict's "exp → train → lr → $"."""
    if isinstance(path, str):
        path = tuple(key for key in path.split(" → ") if key not in ("$", "<k>", ""))
    return f"{document.place(path)}: {'.'.join(path)}"
