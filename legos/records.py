"""JSON files of our own, read in one place: parsed with care and checked against a schema.

What another program, a kill or a person did to a file is told with the file, the key, what was
found and what was expected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from legos.errors import DataError, LegosError

MakeError = Callable[[str], LegosError]
Count = Annotated[int, Field(ge=0, lt=2**63)]
"""A number of things."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")
_SHOWN = 60  # characters of a value in a message
_MORE = 3  # problems in a message


class Record(BaseModel):
    """What a JSON file says; keys that the schema does not name are kept."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=BaseModel)


def parse_json(
    content: bytes,
    where: str,
    *,
    line: int = 1,
    half_pairs: bool = False,
    error: MakeError = DataError,
    hint: str = "",
) -> Any:
    """Parse one JSON value as the standard says, and as UTF-8 can hold it.

    Args:
        content: the bytes; a byte order mark is passed over.
        where: what they are, for the message; ``file.json``.
        line: number of the first line.
        half_pairs: let halves of surrogate pairs pass.
        error: which error is raised.
        hint: what to do, the end of the message.

    Raises:
        LegosError: ``error``; not UTF-8, not JSON, NaN or infinity, a key that occurs twice, half
            of a surrogate pair, or nested too deeply. Names the line.
    """

    def refuse(below: int, problem: str) -> NoReturn:
        raise error(f"{where}:{line + below}: {problem}{tail_of(hint)}") from None

    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as found:
        below = content.count(b"\n", 0, found.start)
        refuse(below, f"not UTF-8 (byte {content[found.start]:#04x})")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except json.JSONDecodeError as found:
        refuse(found.lineno - 1, f"not JSON ({found.msg}, column {found.colno})")
    except RecursionError:
        refuse(0, "nested too deeply")
    except ValueError as found:  # of the hooks, and of numbers with thousands of digits
        refuse(0, f"not valid JSON ({str(found)[:200]})")
    half = None if half_pairs else _half_pair(text, value)
    if half is not None:
        below, character = half
        refuse(below, f"{character} is half of a surrogate pair, which is no character")
    return value


def read_json(path: Path, *, error: MakeError = DataError, hint: str = "") -> Any:
    """Read a JSON file as :func:`parse_json` does.

    Raises:
        LegosError: ``error``; the file is missing or not JSON.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise error(f"{path}: missing{tail_of(hint)}") from None
    return parse_json(content, str(path), error=error, hint=hint)


def read_record(
    path: Path, model: type[Model], *, error: MakeError = DataError, hint: str = ""
) -> Model:
    """Read a JSON file that a schema describes.

    Raises:
        LegosError: ``error``; the file is missing, not JSON, or not what the schema says. Names
            the key, what was found and what was expected.
    """
    return check_record(read_json(path, error=error, hint=hint), model, str(path), error, hint)


def check_record(
    value: Any, model: type[Model], where: str, error: MakeError = DataError, hint: str = ""
) -> Model:
    """Check a parsed value against a schema; see :func:`read_record`."""
    try:
        return model.model_validate(value)
    except ValidationError as found:
        raise error(f"{where}: {describe_problems(found)}{tail_of(hint)}") from None
    except RecursionError:
        raise error(f"{where}: nested too deeply{tail_of(hint)}") from None


def describe_problems(found: ValidationError) -> str:
    """The first problems that a schema found, each with its key and value."""
    details = found.errors(include_url=False)
    more = f"; and {len(details) - _MORE} more" if len(details) > _MORE else ""
    return "; ".join(map(_problem, details[:_MORE])) + more


def read_strings(path: Path, *, error: MakeError = DataError, hint: str = "") -> list[str]:
    """Read a JSON list of strings.

    Raises:
        LegosError: ``error``; the file is missing, not JSON, or something else.
    """
    values = read_json(path, error=error, hint=hint)
    return check_strings(values, str(path), error=error, hint=hint)


def check_strings(
    values: Any, where: str, *, error: MakeError = DataError, hint: str = ""
) -> list[str]:
    """Return a parsed value that is a list of strings; see :func:`read_strings`."""
    if not isinstance(values, list):
        raise error(f"{where}: expected a list of strings, found {shown(values)}{tail_of(hint)}")
    for place, value in enumerate(values):
        if type(value) is not str:
            raise error(
                f"{where}: entry {place}: expected a string, found {shown(value)}{tail_of(hint)}"
            )
    return values


def json_lines(content: bytes, where: str) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each line; what follows the last line feed was cut off by a kill.

    Raises:
        DataError: a line is not JSON.
    """
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        yield number, parse_json(line, where, line=number)


def shown(value: Any) -> str:
    """A value as a message shows it: JSON, cut short."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _problem(details: ErrorDetails) -> str:
    where = ".".join(str(part) for part in details["loc"])
    key = f"{where}: " if where else ""
    if details["type"] == "missing":
        return f"{key}this key is missing"
    if details["type"] in ("model_type", "model_attributes_type", "dataclass_type"):
        return f"{key}expected an object, found {shown(details['input'])}"
    expected = details["msg"].removeprefix("Value error, ")
    expected = expected.replace("Input should be", "expected").replace("dictionary", "object")
    if details["type"] == "value_error":
        return f"{key}{expected}"
    return f"{key}{expected}, found {shown(details['input'])}"


def tail_of(hint: str) -> str:
    """What to do, as the end of a message."""
    return f"; {hint}" if hint else ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {shown(twice)} occurs twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:_SHOWN]} is too large a number")
    return number


def _half_pair(text: str, value: Any) -> tuple[int, str] | None:
    """Lines above and name of the first half of a surrogate pair that stands alone."""
    first = _HALF_PAIR.search(text)
    if first is None:
        return None
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as found:
        code = ord(found.object[found.start])
        escape = re.search(rf"\\u{code:04x}", text, re.IGNORECASE)
        place = (escape or first).start()
        return text.count("\n", 0, place), f"\\u{code:04x}"
    return None
