"""Loaders of one YAML document: types of YAML 1.2, and nothing larger than any configuration.

YAML 1.1 makes ``on`` true, ``007`` seven, ``1:30`` ninety and ``1e-3`` a text; a few lines of
anchors may stand for millions of values.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml._yaml import CParser
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import Resolver
from yaml.scanner import Scanner

LONGEST_TEXT = 10_000
"""Characters of a value."""
MOST_VALUES = 50_000
"""Values of a document with every anchor written out."""
DEEPEST = 50
"""Levels of nesting."""
_SURROGATE = re.compile("[\ud800-\udfff]")


class Refused(yaml.MarkedYAMLError):
    """YAML that may be valid, but is none of a configuration."""

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem=problem, problem_mark=mark)


def size_of(text: str) -> int:
    """How many values a text counts for."""
    return 1 + len(text) // 100


def refuse_text(text: str, mark: Any = None) -> None:
    """Raise Refused where a text is too long or holds half a character."""
    if len(text) > LONGEST_TEXT:
        raise Refused(f"a value of {len(text):,} characters; at most {LONGEST_TEXT:,}", mark)
    if _SURROGATE.search(text):
        raise Refused("half a character (an unpaired surrogate)", mark)


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
            raise Refused(f"nested more than {DEEPEST} levels deep", mark)
        if getattr(event, "tag", None) not in (None, "!", "tag:yaml.org,2002:str"):
            raise Refused(f"tag {event.tag!r} is not read; write the value without it", mark)
        node: Any = super().compose_node(parent, index)
        self._level -= 1
        if not isinstance(event, yaml.AliasEvent):
            self._sizes[id(node)] = self._weigh(node, mark)
        elif id(node) not in self._sizes:
            raise Refused(f"*{event.anchor}: an anchor that contains itself", mark)
        return node  # type: ignore[no-any-return]

    def _weigh(self, node: Any, mark: Any) -> tuple[int, int]:
        if isinstance(node, yaml.ScalarNode):
            refuse_text(node.value, mark)
            return size_of(node.value), 1
        pairs = isinstance(node, yaml.MappingNode)
        below = [part for pair in node.value for part in pair] if pairs else node.value
        size = 1 + sum(self._sizes[id(part)][0] for part in below)
        depth = 1 + max((self._sizes[id(part)][1] for part in below), default=0)
        if size > MOST_VALUES:
            raise Refused(f"more than {MOST_VALUES:,} values once anchors are written out", mark)
        if depth > DEEPEST:
            raise Refused(f"nested more than {DEEPEST} levels deep by its anchors", mark)
        return size, depth

    def construct_number(self, node: yaml.ScalarNode) -> int:
        """A whole number; Python reads none of more than a few thousand digits."""
        try:
            return int(node.value)
        except ValueError:
            found = f"a number of {len(node.value):,} digits"
            raise Refused(found, node.start_mark) from None


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
