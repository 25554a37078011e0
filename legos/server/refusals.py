"""Why a request is refused: one line in plain words, and the same by field."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from fastapi import Response
from pydantic import BaseModel

from legos.server.schemas import Fault, Refused

_LONGEST = 60  # characters shown of what a client sent


class Refusal(Exception):
    """A request that is not answered.

    Args:
        status: of the HTTP response.
        message: the reason, in one line.
        faults: the reasons by field.
        retry_after: seconds after which the client may ask again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        faults: Iterable[Fault] = (),
        *,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.faults = status, message, list(faults)
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}

    def response(self) -> Response:
        """The refusal as JSON, in ASCII only, whatever the client sent."""
        body = Refused(error=self.message, faults=self.faults).model_dump()
        return Response(
            json.dumps(body), self.status, headers=self.headers, media_type="application/json"
        )


def refuse(status: int, *faults: Fault) -> Refusal:
    """Make a refusal whose line lists its faults."""
    return Refusal(status, "; ".join(map(_line, faults)), faults)


def _line(fault: Fault) -> str:
    near = f"; nearest: {', '.join(fault.nearest)}" if fault.nearest else ""
    return f"{fault.field}: found {fault.found}, expected {fault.expected}{near}"


def explain(errors: Iterable[Mapping[str, Any]], body: type[BaseModel] | None) -> Refusal:
    """Turn pydantic's errors into plain words; at most ten.

    Args:
        errors: of ``RequestValidationError``.
        body: the schema of the request, for the names of its fields.
    """
    known = list(body.model_fields) if body else []
    return refuse(422, *[_fault(error, known) for _, error in zip(range(10), errors, strict=False)])


def _fault(error: Mapping[str, Any], known: list[str]) -> Fault:
    kind, value = error["type"], error["input"]
    if isinstance(value, str) and kind in ("too_short", "too_long"):
        kind = f"string_{kind}"  # as pydantic calls it where nothing runs before the check
    place = [part for part in error["loc"][1:] if not _names_a_choice(part)]
    field = ".".join(map(str, place)) or str(error["loc"][0])
    if kind == "missing":
        return Fault(field=field, found="nothing", expected="a value; the field is required")
    if kind == "extra_forbidden":
        near = get_close_matches(str(place[-1]), known, n=1)
        others = f"only {', '.join(known)}" if known else "no fields"
        return Fault(
            field=show_name(field), found="an unknown field", expected=others, nearest=near
        )
    if kind in _WORDS:
        expected = _WORDS[kind](error.get("ctx", {}))
    else:
        expected = error["msg"].removeprefix("Value error, expected ")
        expected = expected.removeprefix("Input should be ").replace("a valid ", "a ")
    return Fault(field=show_name(field), found=show(value), expected=expected)


def _names_a_choice(part: Any) -> bool:
    """Whether a part of a location is pydantic's name for one type of a union."""
    return isinstance(part, str) and part in _CHOICES


_CHOICES = ("constrained-str", "constrained-float", "float", "str", "[key]")
_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "int_type": lambda _: "a whole number",
    "int_from_float": lambda _: "a whole number",
    "float_type": lambda _: "a number or a text",
    "finite_number": lambda _: "a finite number",
    "bool_type": lambda _: "true or false",
    "string_type": lambda _: "a text",
    "string_unicode": lambda _: "a text of whole Unicode characters",
    "list_type": lambda _: "a list",
    "dict_type": lambda _: "an object of fields and values",
    "model_attributes_type": lambda _: "a JSON object",
    "model_type": lambda _: "a JSON object",
    "string_too_short": lambda told: f"at least {told['min_length']} character",
    "string_too_long": lambda told: f"at most {told['max_length']:,} characters",
    "too_short": lambda told: f"at least {told['min_length']} entry",
    "too_long": lambda told: f"at most {told['max_length']:,} entries",
    "greater_than_equal": lambda told: f"at least {told['ge']:,}",
    "less_than_equal": lambda told: f"at most {told['le']:,}",
}


def show(value: Any) -> str:
    """Show a value that a client sent: as JSON, or by its size if it is long."""
    if isinstance(value, list):
        return f"a list of {len(value):,}"
    if isinstance(value, dict):
        return f"an object of {len(value):,} field(s)"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes that are not JSON" if value else "nothing"
    if isinstance(value, str) and len(value) > _LONGEST:
        return f"a text of {len(value):,} characters"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"a number of {len(text):,} digits"


def show_name(name: str) -> str:
    """Show a name that a client sent, cut if it is long."""
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."
