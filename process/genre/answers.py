"""What a model said becomes a checked JSON object, or a reason why it cannot.

Models wrap JSON into sentences and fences, leave a comma too many, give a sixth interest. What is
safe to put right is put right and noted; everything else is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from process.genre.objects import CutShort, Objects, find_objects
from process.genre.schemas import validator_of
from process.genre.types import Answer, Asked, Rejected, Reply, Request, Usage, whole_characters

CUT = ("length", "max_tokens", "model_length", "max_output_tokens")
"""Finish reasons, in lower case: the limit of tokens was reached."""
REFUSED = (
    "content_filter", "refusal", "safety", "recitation", "prohibited_content", "blocklist", "spii",
    "guardrail_intervened",
)  # fmt: skip
"""Finish reasons, in lower case: the model, or a filter after it, does not answer this."""
_LETTER = re.compile(r"[^\W_]")
_SURROGATE_NOTE = "half a surrogate pair replaced"


class AnswerError(ValueError):
    """An answer that cannot be used.

    Attributes:
        reason: goes into the quarantine.
        final: asking the same again would only be paid for again.
    """

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.final = reason, final


@dataclass(frozen=True)
class Parsed:
    """A JSON object that fits its schema, and what was put right for it."""

    value: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def read_reply(request: Request, reply: Reply) -> Parsed:
    """Read the answer of a reply; how the reply ended is read first.

    Raises:
        AnswerError: the model refused, used up its limit, or gave no usable answer.
    """
    if reply.refusal and (reply.finish_reason in REFUSED or not reply.text.strip()):
        raise AnswerError(f"refused ({reply.finish_reason}): {reply.refusal[:200]}", final=True)
    return read_answer(
        reply.text,
        request.schema,
        finish_reason=reply.finish_reason,
        prompt=[message["content"] for message in request.messages],
        max_tokens=request.max_tokens,
        reasoned=reply.reasoned,
    )


def read_answer(
    text: str,
    schema: Mapping[str, Any],
    *,
    finish_reason: str = "stop",
    prompt: Sequence[str] = (),
    max_tokens: int | None = None,
    reasoned: bool = False,
) -> Parsed:
    """Find the last whole JSON object of a text that fits a schema.

    What a reasoning model only drafted does not count (`process.genre.objects`), nor does an
    object of the prompt that comes back, nor anything in an answer that was cut.

    Args:
        text: what the model said.
        schema: JSON schema of the answer.
        finish_reason: ``length`` says that the server cut the answer, ``content_filter`` that the
            model or a filter refused; read before the text is.
        prompt: what was asked, message by message.
        max_tokens: the limit that the answer was cut at, for the reason.
        reasoned: the server gave reasoning apart from the text.

    Raises:
        AnswerError: there is none; says what was wrong with the last object there is.
    """
    finish_reason = finish_reason.lower()
    if finish_reason in REFUSED:
        raise AnswerError(f"refused ({finish_reason})", final=True)
    try:
        found = find_objects(_inside_quotes(text))
        if finish_reason in CUT:
            raise _used_up(text, found, max_tokens, reasoned=reasoned)
        return _last_that_fits(found, text, schema, prompt, reasoned=reasoned)
    except CutShort:
        if finish_reason in CUT:
            raise _used_up(text, None, max_tokens, reasoned=reasoned) from None
        raise AnswerError("cut short: the text ends before its JSON object does") from None
    except RecursionError:
        raise AnswerError("nested too deep") from None


def _used_up(
    text: str, objects: Objects | None, max_tokens: int | None, *, reasoned: bool
) -> AnswerError:
    """Why an answer that ended at its limit is none."""
    limit = "the limit" if max_tokens is None else f"the limit of {max_tokens:,} tokens"
    advice = "raise it: --answer-tokens N, or max_tokens of the scheme"
    thought = reasoned or (objects is not None and objects.reasoned and not objects.found)
    if thought or not text.strip():
        reason = f"reasoning used up {limit} (max_tokens) before any answer came; {advice}"
    else:
        reason = f"cut short: the answer used up {limit} (max_tokens); {advice}"
    return AnswerError(reason, final=True)


def _last_that_fits(
    objects: Objects, text: str, schema: Mapping[str, Any], prompt: Sequence[str], *, reasoned: bool
) -> Parsed:
    validator = validator_of(schema)
    wrong, echo = "", None
    # the last object first, a whole before its parts
    parts = [part for one in reversed(objects.found) for part in one.with_parts()]
    for part in parts:
        notes = list(part.notes)
        whole = _whole_text(part.value, notes)
        trimmed = _trim(whole, schema, notes, "")
        error = next(iter(validator.iter_errors(trimmed)), None)
        reason = f"{error.json_path}: {error.message}"[:300] if error else _wordless(trimmed)
        if reason:
            wrong = wrong or reason
        elif _echoes(whole, prompt):
            echo = echo or Parsed(trimmed, notes)
        else:
            return Parsed(trimmed, notes)
    if echo is not None and not _has_free_text(echo.value, schema):
        return echo  # few choices: the example's may be the right one
    if echo is not None:
        raise AnswerError("an example of the prompt in place of an answer")
    if wrong:
        raise AnswerError(f"wrong schema: {wrong}")
    if not text.strip():
        raise AnswerError("empty answer" + (": the reply holds only reasoning" if reasoned else ""))
    if objects.reasoned:
        raise AnswerError("no JSON object behind the reasoning")
    if text.count("{") > text.count("}"):
        raise AnswerError("cut short: the text ends before its JSON object does")
    raise AnswerError("no JSON object in the answer")


def _inside_quotes(text: str) -> str:
    """The text of an answer that was encoded twice: one JSON string that holds the object."""
    if not text.strip().startswith('"'):
        return text
    try:
        inner = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return text
    return inner if isinstance(inner, str) else text


def _echoes(value: Mapping[str, Any], prompt: Sequence[str]) -> bool:
    """Whether an object stands in the prompt: an example, or what a text of the data planted."""
    for message in prompt:
        try:
            shown = find_objects(message).found
        except CutShort:
            continue
        if any(part.value == value for one in shown for part in one.with_parts()):
            return True
    return False


def _has_free_text(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a text of the value is of the model's own words, not of a closed list."""
    if isinstance(value, str):
        return "enum" not in schema
    if isinstance(value, list):
        return any(_has_free_text(part, schema.get("items", {})) for part in value)
    if isinstance(value, dict):
        known = schema.get("properties", {})
        return any(_has_free_text(part, known.get(name, {})) for name, part in value.items())
    return False


def _whole_text(value: Any, notes: list[str]) -> Any:
    """The value with U+FFFD in place of every half of a surrogate pair."""
    if isinstance(value, str):
        whole = whole_characters(value)
        if whole != value and _SURROGATE_NOTE not in notes:
            notes.append(_SURROGATE_NOTE)
        return whole
    if isinstance(value, list):
        return [_whole_text(part, notes) for part in value]
    if isinstance(value, dict):
        return {_whole_text(name, notes): _whole_text(part, notes) for name, part in value.items()}
    return value


def make_answer(request: Request, reply: Reply, parsed: Parsed) -> Answer:
    """The store's line for an answered request."""
    return {**_asked(request, reply), "answer": parsed.value, "notes": parsed.notes}


def make_rejected(
    request: Request, reply: Reply | None, reason: str, *, final: bool = False
) -> Rejected:
    """The quarantine's line for a request without a usable answer.

    Args:
        request: that was asked.
        reply: None where none came.
        reason: why it is no answer.
        final: later runs do not ask it again.
    """
    return {**_asked(request, reply), "reason": reason, "final": final}


def now() -> str:
    """The time in UTC, as the store writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _asked(request: Request, reply: Reply | None) -> Asked:
    usage = reply.usage if reply else Usage()
    sent = request.sampling.parameters()
    for name in reply.without if reply else ():
        sent.pop(name, None)
    return {
        "hash": request.hash,
        "key": request.key,
        "scheme": request.scheme,
        "version": request.version,
        "source": request.source,
        "model": request.sampling.model,
        "parameters": sent,
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
