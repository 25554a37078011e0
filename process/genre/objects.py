"""The JSON objects of a model's text, apart from what it only thought aloud.

Reasoning models draft before they answer, and servers differ in what they leave of it: ``<think>``,
``[THINK]``, the channels of gpt-oss. Whatever stands between such marks is no answer; nor is what
precedes a closing mark whose opening one the server's template has swallowed, nor what follows an
opening mark that is never closed. An object that lies inside another one that was cut is a part,
not an answer.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_MOST_STARTS = 1000  # a text of a million braces is refused, not searched for hours
_MOST_REPAIRS = 20
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
_LIKE_AN_OBJECT = re.compile(r"""\{\s*(?:"[^"]{0,200}"|'[^']{0,200}'|“[^”]{0,200}”|\w{1,60})\s*:""")
_TAGS = (
    "think|thinking|thoughts?|reasoning|reflection|analysis|scratchpad|antthinking|seed:think|"
    "plan|draft"
)
_REASONING = {  # what opens it, what closes it
    "tag": (rf"<(?P<name>{_TAGS})(?:\s[^<>]*)?(?<!/)>", r"</{name}\s*>"),
    "square": (r"\[(?:think|thinking|reasoning)\]", r"\[/(?:think|thinking|reasoning)\]"),
    "kimi": (r"◁think▷", r"◁/think▷"),
    "thought": (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
    "cohere": (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),
    "bar": (r"<\|thinking\|>", r"<\|/thinking\|>"),
    "harmony": (
        r"<\|channel\|>\s*(?:analysis|commentary)\b[^<]*<\|message\|>",
        r"<\|channel\|>\s*final\b[^<]*<\|message\|>",
    ),
    "harmony_bare": (r"\A(?-i:analysis(?=[A-Z]))", r"assistant\s?final"),  # its special tokens gone
}  # fmt: skip
_CLOSING = "|".join(
    [rf"</(?:{_TAGS})\s*>", *(close for kind, (_, close) in _REASONING.items()
                              if kind not in ("tag", "harmony_bare"))]
)  # fmt: skip
_EVENT = re.compile(
    "|".join(
        [*(rf"(?P<{kind}>{opens})" for kind, (opens, _) in _REASONING.items()),
         rf"(?P<closing>{_CLOSING})", r"(?P<brace>\{)"]
    ),
    re.IGNORECASE,
)  # fmt: skip


class CutShort(ValueError):
    """The text ends inside an object."""


@dataclass(frozen=True)
class Found:
    """An object of a text, and what was put right for it."""

    value: dict[str, Any]
    notes: tuple[str, ...] = ()

    def with_parts(self) -> Iterator[Found]:
        """The object, then the objects inside it, the last one first."""
        yield self
        for part in reversed(list(_dicts_in(self.value))):
            yield Found(part, self.notes)


@dataclass(frozen=True)
class Objects:
    """What a text holds besides reasoning."""

    found: list[Found]
    """The outermost objects, in order."""
    reasoned: bool
    """Whether the text holds reasoning, closed or not."""


def find_objects(text: str) -> Objects:
    """Find the outermost whole JSON objects of a text, reasoning left out.

    Raises:
        CutShort: an object begins that does not end.
    """
    found: list[Found] = []
    reasoned, position, starts, repairs = False, 0, 0, 0
    while (event := _EVENT.search(text, position)) is not None and starts < _MOST_STARTS:
        kind, position = str(event.lastgroup), event.end()
        if kind == "closing":
            found, reasoned = [], True
        elif kind != "brace":
            reasoned = True
            closed = _closing_of(event).search(text, event.end())
            if closed is None:
                break
            position = closed.end()
        else:
            starts += 1
            end, one = _read_object(text, event.start(), repair=repairs < _MOST_REPAIRS)
            if one is None:
                repairs += end is not None
                continue
            if _begins_cut_list(text, event.start(), end):
                if not found:
                    raise CutShort
                break  # what follows is a part, too
            found.append(one)
            position = end or position
    return Objects(found, reasoned)


def _closing_of(event: re.Match[str]) -> re.Pattern[str]:
    closes = _REASONING[str(event.lastgroup)][1]
    return re.compile(closes.format(name=event["name"]), re.IGNORECASE)


def _read_object(text: str, start: int, *, repair: bool) -> tuple[int | None, Found | None]:
    """The end of the object that begins at ``start``, and the object.

    The end is given without an object where a repair was tried in vain.

    Raises:
        CutShort: it looks like an object and has no end.
    """
    decoded = _decode(text, start)
    if decoded is not None:
        return decoded
    if not repair or not _LIKE_AN_OBJECT.match(text, start):
        return None, None
    end = _closing_brace(text, start)
    if end is None:
        raise CutShort
    return end, _repair(text[start:end])


def _begins_cut_list(text: str, start: int, end: int | None) -> bool:
    """Whether an object is the first entry of a list without an end: a part, no answer."""
    rest = text[end:].strip()
    in_list = text[:start].rstrip().endswith("[") and (not rest or rest.startswith(","))
    return in_list and "]" not in rest


def _decode(text: str, start: int) -> tuple[int, Found] | None:
    twice: list[str] = []

    def as_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            twice.append("a key stands twice, its last value counts")
        return value

    decoder = json.JSONDecoder(
        strict=False, parse_constant=_refuse_constant, parse_float=_finite,
        object_pairs_hook=as_dict,
    )  # fmt: skip
    try:
        value, end = decoder.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return (end, Found(value, tuple(twice[:1]))) if isinstance(value, dict) else None


def _repair(part: str) -> Found | None:
    """An object with a comma too many, or in Python's quotes; the literal is parsed, never run."""
    notes = ("JSON repaired",)
    if _TRAILING_COMMA.search(part):
        decoded = _decode(_TRAILING_COMMA.sub(r"\1", part), 0)
        if decoded is not None:
            return Found(decoded[1].value, (*notes, *decoded[1].notes))
    try:
        literal = ast.literal_eval(part)
        plain = json.loads(json.dumps(literal, allow_nan=False))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
    return Found(plain, notes) if isinstance(plain, dict) else None


def _closing_brace(text: str, start: int) -> int | None:
    """The end of the braces that open at ``start``, strings of either quote skipped."""
    depth, quote, escaped = 0, "", False
    for position in range(start, len(text)):
        letter = text[position]
        if quote:
            if escaped:
                escaped = False
            elif letter == "\\":
                escaped = True
            elif letter == quote:
                quote = ""
        elif letter == '"' or (letter == "'" and text[position - 1] in "{[,: \n\t"):
            quote = letter
        elif letter == "{":
            depth += 1
        elif letter == "}":
            depth -= 1
            if depth == 0:
                return position + 1
    return None


def _dicts_in(value: Any) -> Iterator[dict[str, Any]]:
    """The objects inside a value, in order."""
    parts = value.values() if isinstance(value, dict) else value
    for part in parts if isinstance(value, dict | list) else ():
        if isinstance(part, dict):
            yield part
        yield from _dicts_in(part)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number
