"""PyYAML's safe loader with the types of YAML 1.2's core schema, and with bounds.

``1e-3`` is a number, ``on``, ``1:30`` and ``2024-01-01`` are texts (PyYAML follows 1.1, where they
are a truth value, 90 and a date). A document that anchors, merge keys or nesting make larger than
any configuration is refused while it is read, so that reading one takes little memory and time.

libyaml parses where PyYAML has it, five times as fast as Python does. What it refuses is parsed
again in Python, so that all errors are the same with and without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import Resolver
from yaml.scanner import Scanner

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
