"""``${a.b}``, ``${x:default}`` and ``${x}$`` in YAML values, resolved by refconfig.

refconfig (through smartdict) raises errors without a file or a line, and would take ``${items}``
for the method of that name; the errors are put into words here and such names are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from refconfig import RefConfig
from smartdict import CircularReferenceError, PipelineStageError, ReferenceNotFoundError

from legos.config.locations import KINDS
from legos.config.variables import PUBLISHED
from legos.config.yaml_files import Document, KeyPath
from legos.errors import ConfigError, nearest

_REFERENCE = re.compile(r"\$\{([^${}:|]+)")
_METHODS = {name for kind in (dict, list, str) for name in dir(kind)}


def referenced_variables(data: Any) -> set[str]:
    """The variables that ``${...}`` in any value name, sections of the YAMLs left out."""
    return {
        name.split(".")[0]
        for _, text in _texts(data)
        for name in _REFERENCE.findall(text)
        if name.split(".")[0] not in KINDS
    }


def resolve(document: Document, variables: Mapping[str, Any]) -> Document:
    """Replace every reference by what it refers to.

    Args:
        document: the sections of a run and where their keys stand.
        variables: from the command line; they win over defaults in the YAML.

    Raises:
        ConfigError: references to nothing (all of them at once), in a circle, or not closed.
    """
    _refuse_method_names(document)
    data = _map_texts(document.data, lambda text: _with_published_default(text, variables))
    try:
        resolved = RefConfig().add_raw({**variables, **data}).parse()
    except ReferenceNotFoundError as error:
        problems = [
            _missing(document, _key_path(item.path), item.reference) for item in error.unresolved
        ]
        raise ConfigError("\n".join(dict.fromkeys(problems))) from None
    except (CircularReferenceError, RecursionError) as error:
        name = getattr(error, "ref_string", "")
        raise ConfigError(_circle(document, name)) from None
    except PipelineStageError as error:
        where = _location(document, _key_path(error.path))
        raise ConfigError(f"{where}: |{error.stage} of {error.value!r}: {error}") from None
    except ValueError:
        raise ConfigError(_unclosed(document)) from None
    sections = {kind: value for kind, value in resolved.items() if kind in document.data}
    return Document(sections, document.places)


def _with_published_default(text: str, variables: Mapping[str, Any]) -> str:
    """``${lr}`` becomes ``${lr:0.001}`` where the command line gives no ``lr``."""
    for name in _REFERENCE.findall(text):
        if name in PUBLISHED and name not in variables:
            default = json.dumps(PUBLISHED[name].default)
            text = text.replace(f"${{{name}}}", f"${{{name}:{default}}}")
    return text


def _missing(document: Document, path: KeyPath, reference: str) -> str:
    where = _location(document, path)
    first, *rest = reference.split(".")
    if rest and first in document.data:
        parent: Any = document.data
        for key in (first, *rest):
            if not isinstance(parent, dict) or key not in parent:
                break
            parent = parent[key]
        known = parent if isinstance(parent, dict) else {}
        return f"{where}: ${{{reference}}} refers to nothing; {nearest(rest[-1], known)}"
    return f"{where}: needs variable {reference!r}, which has no default; give --{reference} VALUE"


def _circle(document: Document, name: str) -> str:
    users = [
        _location(document, path)
        for path, text in _texts(document.data)
        if not name or name in _REFERENCE.findall(text)
    ]
    return f"{', '.join(users)}: ${{{name}}} refers to itself, directly or through others"


def _unclosed(document: Document) -> str:
    for path, text in _texts(document.data):
        if text.count("${") > text.count("}"):
            return f"{_location(document, path)}: {text!r} has a ${{ that is not closed"
    return "a ${...} of the YAMLs cannot be read"


def _refuse_method_names(document: Document) -> None:
    for path, text in _texts(document.data):
        for name in _REFERENCE.findall(text):
            here: Any = document.data
            for key in name.split("."):
                here = here.get(key) if isinstance(here, dict) else None
                if here is None and key in _METHODS:
                    raise ConfigError(
                        f"{_location(document, path)}: ${{{name}}}: {key!r} cannot be the name of "
                        "a variable, because Python's own types use it"
                    )


def _texts(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Every text in a tree with its key path; keys are texts, too."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, below in value.items():
            yield (*path, key), key
            yield from _texts(below, (*path, key))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _texts(below, (*path, str(index)))


def _map_texts(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _map_texts(below, change) for key, below in value.items()}
    if isinstance(value, list):
        return [_map_texts(below, change) for below in value]
    return value


def _key_path(path: str) -> KeyPath:
    """smartdict's "exp → train → lr → $" as a key path."""
    return tuple(key for key in path.split(" → ") if key not in ("$", "<k>", ""))


def _location(document: Document, path: KeyPath) -> str:
    return f"{document.place(path)}: {'.'.join(path)}"
