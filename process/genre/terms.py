"""On what terms a server is asked: what it refuses is left out, and remembered for the run.

Servers that call themselves OpenAI-compatible differ in what they accept: reasoning models refuse
a temperature, others a seed or a penalty, Gemma's template the system role. A parameter that an
error names is dropped and the request sent again; once that has worked, all others go without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from process.genre.endpoint import STRUCTURED, Structured
from process.genre.replies import ServerError
from process.genre.types import Message, Request

LIMITS = ("max_tokens", "max_completion_tokens")
_ABOUT_FORMAT = ("json_schema", "json_object", "schema", "grammar", "structured", "strict")
_ABOUT_LENGTH = re.compile(
    r"context[ _-]?(?:length|window|size)|too long|too many tokens|maximum (?:prompt|input|model)"
    r"|exceeds? (?:the )?(?:limit|maximum|context)|string_above_max_length|reduce (?:the|your)",
    re.IGNORECASE,
)  # a fault of one long text, whatever parameter the message names beside it
_ABOUT_SYSTEM = re.compile(
    r"(?:system|developer)\W{0,3}\s*(?:role|message|prompt|instruction)"
    r"|roles?\b.{0,60}\b(?:system|developer)\b|roles? must alternate"
    r"|only .{0,30}user.{0,30}assistant.{0,30}roles?",
    re.IGNORECASE | re.DOTALL,
)
_UNSUPPORTED = re.compile(
    r"support|unknown|unexpected|unrecognized|not (?:permitted|allowed|enabled|implemented)|invalid"
    r"|must alternate|extra|forbidden|only ",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Terms:
    """How requests are written for one server."""

    structured: Structured = "json_schema"
    """The strictest way of asking for JSON that it accepts."""
    limit_name: str = LIMITS[0]
    without: frozenset[str] = frozenset()
    """Parameters that it refuses."""
    system_in_user: bool = False
    """Whether the system message stands before the first question."""

    def body(self, request: Request, asked: Sequence[Message]) -> dict[str, Any]:
        """The body of a request.

        Args:
            request: what is asked for.
            asked: its messages, or those of a second chance.
        """
        sampling = request.sampling
        body: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "frequency_penalty": sampling.frequency_penalty,
            self.limit_name: request.max_tokens,
        }
        if self.structured == "json_schema":
            schema = {"name": "answer", "strict": True, "schema": dict(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif self.structured == "json_object":
            body["response_format"] = {"type": "json_object"}
        kept = {name: value for name, value in body.items() if name not in self.without}
        messages = [dict(message) for message in asked]
        if self.system_in_user:
            messages = _folded(messages)
        return {"model": sampling.model, "messages": messages, **kept}

    def weaker(self, error: ServerError, body: dict[str, Any]) -> Terms | None:
        """Terms without what an error is about; None where it names nothing that could go.

        Args:
            error: the server's.
            body: that it refused.
        """
        told = f"{error.message} {' '.join(error.codes)}"
        if _ABOUT_LENGTH.search(told):
            return None
        if not self.system_in_user and _is_about_system(error, body):
            return replace(self, system_in_user=True)
        names = [name for name in body if name not in ("model", "messages")]
        name = _named(error, names)
        if name is None and self.limit_name in names and LIMITS[1] in error.message:
            name = self.limit_name
        if name == LIMITS[0]:
            return replace(self, limit_name=LIMITS[1])
        if name is not None and name != "response_format":
            return replace(self, without=self.without | {name})
        level = STRUCTURED.index(self.structured) + 1
        about_format = name is not None or any(w in told.lower() for w in _ABOUT_FORMAT)
        if about_format and level < len(STRUCTURED) and "response_format" in body:
            return replace(self, structured=STRUCTURED[level])
        return None

    def or_weaker(self, other: Terms) -> Terms:
        """Without what either leaves out: two requests may have found out at the same time."""
        return Terms(
            max(self.structured, other.structured, key=STRUCTURED.index),
            max(self.limit_name, other.limit_name, key=LIMITS.index),
            self.without | other.without,
            self.system_in_user or other.system_in_user,
        )

    def notes(self) -> list[str]:
        """What the user should know of them, a line each."""
        notes = [f"the endpoint refuses {name}; asked without it" for name in sorted(self.without)]
        if self.limit_name != LIMITS[0] and self.limit_name not in self.without:
            notes.append(f"the endpoint refuses {LIMITS[0]}; {self.limit_name} now")
        if self.system_in_user:
            notes.append("the endpoint refuses the system role; its text precedes the question")
        return notes


def refuses_something(error: ServerError) -> bool:
    """Whether an error of a server that broke (5xx) is a refusal all the same."""
    return bool(_UNSUPPORTED.search(error.message)) and bool(
        _ABOUT_SYSTEM.search(error.message)
        or _quoted(error, ("temperature", "top_p", "seed", "frequency_penalty", "response_format"))
    )


def _folded(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """The messages without the system role: its text begins the first question."""
    system = [message["content"] for message in messages if message["role"] == "system"]
    rest = [dict(message) for message in messages if message["role"] != "system"]
    if system and rest:
        rest[0]["content"] = "\n\n".join([*system, rest[0]["content"]])
    return rest or messages


def _is_about_system(error: ServerError, body: dict[str, Any]) -> bool:
    if not any(message["role"] == "system" for message in body["messages"]):
        return False
    if "messages" in error.parameters and "role" in error.parameters:
        return True
    return bool(_ABOUT_SYSTEM.search(error.message) and _UNSUPPORTED.search(error.message))


def _named(error: ServerError, names: Sequence[str]) -> str | None:
    """The parameter an error is about: named by itself, in quotes, or first in the message."""
    for name in (*error.parameters, *_quoted(error, names)):
        if name in names:
            return name
    places = {name: _spelled(name).search(error.message) for name in names}
    found = [(place.start(), name) for name, place in places.items() if place]
    return min(found)[1] if found else None


def _quoted(error: ServerError, names: Iterable[str]) -> list[str]:
    found = []
    for name in names:
        place = re.search(rf"[\"'`“‘]{_spelled(name).pattern}[\"'`”’]", error.message, re.I)
        if place:
            found.append((place.start(), name))
    return [name for _, name in sorted(found)]


def _spelled(name: str) -> re.Pattern[str]:
    """``top_p`` as any server writes it: top_p, topP, top-p, "top p"."""
    return re.compile(rf"(?<![a-z_]){name.replace('_', '[_ -]?')}(?![a-z_])", re.IGNORECASE)
