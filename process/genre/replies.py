"""What a server's body says: a reply, or an error, whatever the status it came with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from process.genre.types import Usage, whole_characters

_CODES = {  # words in codes, types and statuses of errors: what they are as an HTTP status
    "insufficient_quota": 402, "quota_exceeded": 402, "billing": 402,
    "rate_limit": 429, "too_many": 429, "resource_exhausted": 429, "throttl": 429,
    "overloaded": 503, "unavailable": 503, "timeout": 504, "deadline": 504,
    "server_error": 500, "internal": 500, "api_error": 500, "bad_gateway": 502,
    "invalid_api_key": 401, "authentication": 401, "unauthenticated": 401, "unauthorized": 401,
    "permission": 403, "forbidden": 403,
    "model_not_found": 404, "not_found": 404,
}  # fmt: skip
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class ServerError:
    """An error as a server tells it."""

    status: int
    """Of HTTP, or what the error's own code amounts to."""
    message: str
    parameters: tuple[str, ...] = ()
    """What the error says it is about: names of fields of the request."""
    codes: tuple[str, ...] = ()
    """Codes, types and statuses, in lower case."""


@dataclass(frozen=True)
class Body:
    """What a chat completion holds."""

    text: str
    finish_reason: str
    refusal: str
    reasoned: bool
    model: str
    usage: Usage | None
    """None where the server does not count."""


def read_error(body: Any, status: int) -> ServerError | None:
    """The error of a body; None where it tells none.

    Args:
        body: parsed JSON; a text is a message by itself.
        status: of HTTP; inside a 200 the error's own code counts.
    """
    body = body[0] if isinstance(body, list) and body else body
    if not isinstance(body, dict):
        return None if status == 200 else ServerError(status, str(body or ""))
    inner = body.get("error")
    if inner is None and not _is_error(body) and status == 200:
        return None
    told = inner if isinstance(inner, dict) else body
    message = inner if isinstance(inner, str) else _message(told)
    codes = tuple(
        str(told[name]).lower() for name in ("code", "type", "status") if told.get(name) is not None
    )
    own = _status_of(codes) if status == 200 else status
    return ServerError(own, message or str(body), tuple(_named(told)), codes)


def read_body(body: Any) -> Body | None:
    """The first choice of a chat completion; None where it is none."""
    try:
        choice = body["choices"][0]
        message = choice["message"]
        text, thought = _text_of(message.get("content"))
    except (KeyError, IndexError, TypeError, AttributeError):
        return None
    reasoning = (message.get(name) for name in ("reasoning_content", "reasoning", "thinking"))
    return Body(
        text=whole_characters(text),
        finish_reason=str(choice.get("finish_reason") or "stop").lower(),
        refusal=whole_characters(str(message.get("refusal") or "")),
        reasoned=thought or any(reasoning),
        model=str(body.get("model") or ""),
        usage=_usage(body.get("usage")),
    )


def error_of_choice(body: Any) -> ServerError | None:
    """The error that a router puts beside its choice."""
    choices = body.get("choices") if isinstance(body, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        return None
    if choice.get("error"):
        return read_error({"error": choice["error"]}, 200)
    if str(choice.get("finish_reason")).lower() in ("error", "insufficient_system_resource"):
        return ServerError(503, f"finish_reason {choice['finish_reason']}")
    return None


def _is_error(body: Mapping[str, Any]) -> bool:
    return "choices" not in body and (
        body.get("object") == "error" or body.get("type") == "error" or "detail" in body
    )


def _message(told: Mapping[str, Any]) -> str:
    message = told.get("message") or told.get("detail") or told.get("error_description") or ""
    return message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)


def _status_of(codes: tuple[str, ...]) -> int:
    """What the codes of an error are as a status; an unknown code is of this request alone."""
    for code in codes:
        if code.isdecimal() and 400 <= int(code) < 600:
            return int(code)
    for code in codes:
        for word, status in _CODES.items():
            if word in code:
                return status
    return 400


def _named(told: Any) -> Iterator[str]:
    """Fields that an error names by itself: ``param``, and ``loc`` of what pydantic reports."""
    if isinstance(told, dict):
        for name, part in told.items():
            if name == "param" and isinstance(part, str):
                yield from _IDENTIFIER.findall(part)
            elif name == "loc" and isinstance(part, list):
                yield from (str(step) for step in part if step != "body")
            else:
                yield from _named(part)
    elif isinstance(told, list):
        for part in told:
            yield from _named(part)


def _text_of(content: Any) -> tuple[str, bool]:
    """The text of a content that may be a list of parts, and whether a part is reasoning."""
    if not isinstance(content, list):
        return ("" if content is None else str(content)), False
    texts, thought = [], False
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict):
            kind = str(part.get("type") or "text")
            if "text" in kind and isinstance(part.get("text"), str):
                texts.append(part["text"])
            thought = thought or "think" in kind or "reason" in kind
    return "".join(texts), thought


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    counts = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
    whole = [n for n in counts if isinstance(n, int) and not isinstance(n, bool) and n >= 0]
    return Usage(*whole) if len(whole) == len(counts) else None
