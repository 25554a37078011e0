"""What a model said becomes a checked JSON object, or a reason why it cannot.

Models wrap JSON into sentences and fences, leave a comma too many, give a sixth interest. What is
safe to put right is put right and noted; everything else is refused.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from jsonschema import Draft202012Validator

from process.genre.types import Answer, Asked, Rejected, Reply, Request, Usage

_MOST_STARTS = 1000  # a text of a million braces is refused, not searched for hours
_MOST_REPAIRS = 20
_LETTER = re.compile(r"[^\W_]")
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")


class AnswerError(ValueError):
    """An answer that cannot be used; ``reason`` goes into the quarantine."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Parsed:
    """A JSON object that fits its schema, and what was put right for it."""

    value: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def read_answer(text: str, schema: Mapping[str, Any], *, finish_reason: str = "stop") -> Parsed:
    """Find the first JSON object in a text that fits a schema.

    Args:
        text: what the model said.
        schema: JSON schema of the answer.
        finish_reason: ``length`` says that the server cut the answer.

    Raises:
        AnswerError: there is none; says what was wrong with the first object there is.
    """
    validator = Draft202012Validator(schema)
    first_error = ""
    for value, repaired in _objects(text):
        notes = ["JSON repaired"] if repaired else []
        trimmed = _trim(value, schema, notes, "")
        error = next(iter(validator.iter_errors(trimmed)), None)
        wrong = f"{error.json_path}: {error.message}"[:300] if error else _wordless(trimmed)
        if not wrong:
            return Parsed(trimmed, notes)
        first_error = first_error or wrong
    if first_error:
        raise AnswerError(f"wrong schema: {first_error}")
    if not text.strip():
        raise AnswerError("empty answer")
    if finish_reason == "length" or text.count("{") > text.count("}"):
        raise AnswerError("cut short: the text ends before its JSON object does")
    raise AnswerError("no JSON object in the answer")


def make_answer(request: Request, reply: Reply, parsed: Parsed) -> Answer:
    """The store's line for an answered request."""
    return {**_asked(request, reply), "answer": parsed.value, "notes": parsed.notes}


def make_rejected(request: Request, reply: Reply | None, reason: str) -> Rejected:
    """The quarantine's line for a request without a usable answer."""
    return {**_asked(request, reply), "reason": reason}


def now() -> str:
    """The time in UTC, as the store writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _asked(request: Request, reply: Reply | None) -> Asked:
    usage = reply.usage if reply else Usage()
    return {
        "hash": request.hash,
        "key": request.key,
        "scheme": request.scheme,
        "version": request.version,
        "source": request.source,
        "model": request.sampling.model,
        "parameters": request.sampling.parameters(),
        "text": reply.text if reply else "",
        "usage": asdict(usage),
        "seconds": round(reply.seconds, 4) if reply else 0.0,
        "time": now(),
    }


def _wordless(value: Mapping[str, Any]) -> str:
    """What is wrong with a text like "...", which models copy from the question; "" if nothing."""
    for name, part in value.items():
        if isinstance(part, str) and part and not _LETTER.search(part):
            return f"$.{name}: {part[:20]!r} has no letter or digit"
    return ""


def _objects(text: str) -> Iterator[tuple[dict[str, Any], bool]]:
    """JSON objects that begin at any brace, the clean ones first; and whether one was repaired."""
    starts = [match.start() for match, _ in zip(re.finditer("{", text), range(_MOST_STARTS))]  # noqa: B905
    broken = []
    for start in starts:
        value = _decode(text, start)
        if value is None:
            broken.append(start)
        else:
            yield value, False
    for start in broken[:_MOST_REPAIRS]:
        value = _repair(text, start)
        if value is not None:
            yield value, True


def _decode(text: str, start: int) -> dict[str, Any] | None:
    decoder = json.JSONDecoder(strict=False, parse_constant=_refuse_constant)
    try:
        value, _ = decoder.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _repair(text: str, start: int) -> dict[str, Any] | None:
    """An object with a comma too many, or in Python's quotes; the literal is parsed, never run."""
    end = _closing_brace(text, start)
    if end is None:
        return None
    part = text[start:end]
    value = _decode(_TRAILING_COMMA.sub(r"\1", part), 0) if _TRAILING_COMMA.search(part) else None
    if value is not None:
        return value
    try:
        literal = ast.literal_eval(part)
        plain = json.loads(json.dumps(literal, allow_nan=False))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
    return plain if isinstance(plain, dict) else None


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


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _trim(value: Any, schema: Mapping[str, Any], notes: list[str], place: str) -> Any:
    """Bring a value within the limits of its schema where that loses nothing but the excess."""
    if isinstance(value, dict) and schema.get("type") == "object":
        return _trim_object(value, schema, notes, place)
    if isinstance(value, list) and schema.get("type") == "array":
        return _trim_list(value, schema, notes, place)
    if isinstance(value, str):
        return _trim_text(value, schema, notes, place)
    return value


def _trim_object(
    value: dict[str, Any], schema: Mapping[str, Any], notes: list[str], place: str
) -> dict[str, Any]:
    known = schema.get("properties", {})
    if schema.get("additionalProperties") is False and (extra := sorted(set(value) - set(known))):
        notes.append(f"{place or 'answer'}: unknown keys dropped: {', '.join(extra)[:80]}")
        value = {name: part for name, part in value.items() if name in known}
    return {
        name: _trim(part, known.get(name, {}), notes, f"{place}.{name}".lstrip("."))
        for name, part in value.items()
    }


def _trim_list(
    value: list[Any], schema: Mapping[str, Any], notes: list[str], place: str
) -> list[Any]:
    entries = [_trim(part, schema.get("items", {}), notes, f"{place}[]") for part in value]
    kept = [part for part in entries if not isinstance(part, str) or _LETTER.search(part)]
    if len(kept) < len(entries):
        notes.append(f"{place}: {len(entries) - len(kept)} entries without a letter dropped")
        entries = kept
    choices = schema.get("items", {}).get("enum")
    if choices is not None and (kept := [part for part in entries if part in choices]) != entries:
        notes.append(f"{place}: {len(entries) - len(kept)} entries outside the closed list dropped")
        entries = kept
    if schema.get("uniqueItems"):
        kept = [part for at, part in enumerate(entries) if part not in entries[:at]]
        if len(kept) < len(entries):
            notes.append(f"{place}: {len(entries) - len(kept)} repeated entries dropped")
            entries = kept
    most = schema.get("maxItems")
    if most is not None and len(entries) > most:
        notes.append(f"{place}: {len(entries)} entries cut to {most}")
        entries = entries[:most]
    return entries


def _trim_text(value: str, schema: Mapping[str, Any], notes: list[str], place: str) -> str:
    value = value.strip()
    choices = schema.get("enum")
    if choices is not None and value not in choices:
        same = [choice for choice in choices if str(choice).lower() == value.lower()]
        if same:
            notes.append(f"{place}: {value!r} taken as {same[0]!r}")
            return str(same[0])
    most = schema.get("maxLength")
    if most is not None and len(value) > most:
        notes.append(f"{place}: {len(value)} characters cut to {most}")
        head = value[:most]
        value = (head.rsplit(None, 1)[0] if " " in head.strip() else head).rstrip()
    return value
