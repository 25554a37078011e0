"""JSON files of our own, read in one place: parsed with care and checked against a schema.

What another program, a kill or a person did to a file is told with the file, the key, what was
found and what was expected. Every reader takes ``error``, which error is raised, and ``hint``, what
to do: the end of its message.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NoReturn, TypeVar

import numpy as np
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

    Raises:
        LegosError: not UTF-8, not JSON, NaN or infinity, a key that occurs twice, half of a
            surrogate pair, or nested too deeply. Names the line.
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
    """Read a JSON file as :func:`parse_json` does; a missing one is an error, too."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise error(f"{path}: missing{tail_of(hint)}") from None
    return parse_json(content, str(path), error=error, hint=hint)


def read_record(
    path: Path, model: type[Model], *, error: MakeError = DataError, hint: str = ""
) -> Model:
    """Read a JSON file that a schema describes."""
    return check_record(read_json(path, error=error, hint=hint), model, str(path), error, hint)


def check_record(
    value: Any, model: type[Model], where: str, error: MakeError = DataError, hint: str = ""
) -> Model:
    """Check a parsed value against a schema.

    Raises:
        LegosError: names the key, what was found and what was expected, of the first problems.
    """
    try:
        return model.model_validate(value)
    except ValidationError as found:
        details = found.errors(include_url=False)
        more = f"; and {len(details) - _MORE} more" if len(details) > _MORE else ""
        problems = "; ".join(map(_problem, details[:_MORE])) + more
        raise error(f"{where}: {problems}{tail_of(hint)}") from None
    except RecursionError:
        raise error(f"{where}: nested too deeply{tail_of(hint)}") from None


def read_strings(path: Path, *, error: MakeError = DataError, hint: str = "") -> list[str]:
    """Read a JSON list of strings."""
    return check_strings(read_json(path, error=error, hint=hint), str(path), error=error, hint=hint)


def check_strings(
    values: Any, where: str, *, error: MakeError = DataError, hint: str = ""
) -> list[str]:
    """Return a parsed value that is a list of strings; raise for any other."""
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
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"key {shown(twice)} occurs twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
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


NUMBERS = "fiub"  # kinds of numpy types: floating point, signed, unsigned, bool
_LONGEST_HEADER = 10_000


@dataclass(frozen=True)
class Header:
    """What a ``.npy`` says of its numbers.

    Attributes:
        shape: of the array.
        dtype: of the numbers, byte order included.
        fortran: whether they lie column by column.
        begin: first byte of the numbers.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    begin: int


def read_header(path: Path, *, error: MakeError = DataError, hint: str = "") -> Header:
    """Read the header of a ``.npy`` and compare it with the size of the file.

    Raises:
        LegosError: missing, no ``.npy``, of Python objects, cut short or too long.
    """
    tail = tail_of(hint)
    try:
        with path.open("rb") as file:
            header = _parse(file)
            size = file.seek(0, 2)
    except FileNotFoundError:
        raise error(f"{path}: missing{tail}") from None
    except OSError:
        raise
    except Exception as found:  # numpy evaluates the text of a header: anything can come of it
        reason = (str(found).splitlines() or [type(found).__name__])[0][:120]
        raise error(f"{path}: damaged or no .npy file ({reason}){tail}") from None
    if header.dtype.hasobject:
        raise error(f"{path}: holds Python objects, which are not read{tail}")
    if any(length < 0 for length in header.shape):
        raise error(f"{path}: damaged, a shape of {header.shape}{tail}")
    expected = header.begin + math.prod(header.shape) * header.dtype.itemsize
    if size != expected:
        raise error(
            f"{path}: damaged, has {size:,} bytes, an array of {header.dtype} of shape "
            f"{header.shape} has {expected:,}{tail}"
        )
    return header


def read_array(
    path: Path,
    *,
    dtype: np.typing.DTypeLike,
    shape: Sequence[int | None],
    mapped: bool = False,
    error: MakeError = DataError,
    hint: str = "",
) -> np.ndarray:
    """Read a ``.npy`` that is known to the type, the byte order and the shape.

    Args:
        path: the file.
        dtype: of its numbers.
        shape: its lengths; None where any will do.
        mapped: read the numbers when they are used; what is written to them never reaches the file.

    Raises:
        LegosError: see :func:`read_header`, or another type or shape than expected.
    """
    header = read_header(path, error=error, hint=hint)
    wanted, tail = np.dtype(dtype), tail_of(hint)
    fits = len(header.shape) == len(shape) and all(
        length in (None, found) for length, found in zip(shape, header.shape, strict=True)
    )
    by_columns = header.fortran and len(header.shape) > 1
    if header.dtype != wanted or not fits or by_columns:
        described = ", ".join("any" if length is None else f"{length:,}" for length in shape)
        order = ", column by column" if by_columns else ""
        raise error(
            f"{path}: holds {header.dtype.str} of shape {header.shape}{order}, expected "
            f"{wanted.str} of shape ({described}){tail}"
        )
    return read_numbers(path, header, mapped=mapped)


def read_numbers(path: Path, header: Header, *, mapped: bool = False) -> np.ndarray:
    """The numbers behind a checked header."""
    if math.prod(header.shape) == 0:  # there is nothing to map
        return np.empty(header.shape, dtype=header.dtype)
    if mapped:
        whole: np.ndarray = np.memmap(
            path, header.dtype, "c", header.begin, (math.prod(header.shape),)
        )
    else:
        with path.open("rb") as file:
            file.seek(header.begin)
            whole = np.fromfile(file, dtype=header.dtype, count=math.prod(header.shape))
    return whole.reshape(header.shape, order="F" if header.fortran else "C")


def check_offsets(
    offsets: np.ndarray, count: int, where: str, *, error: MakeError = DataError, hint: str = ""
) -> None:
    """Refuse ``(N + 1,)`` offsets unless they go from 0 to ``count`` values and never fall."""
    tail = tail_of(hint)
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != count:
        ends = f"{offsets[0]} to {offsets[-1]}" if len(offsets) else "nothing"
        raise error(f"{where}: offsets go from {ends}, expected 0 to {count}{tail}")
    falling = np.flatnonzero(offsets[1:] < offsets[:-1])
    if falling.size:
        row = int(falling[0])
        raise error(
            f"{where}: offsets fall from {offsets[row]} to {offsets[row + 1]} after row {row}{tail}"
        )


def check_ids(
    values: np.ndarray, size: int, where: str, *, error: MakeError = DataError, hint: str = ""
) -> None:
    """Refuse ids that do not lie in a vocabulary of ``size`` entries."""
    if values.size == 0:
        return
    least, most = int(values.min()), int(values.max())
    if least < 0 or most >= size:
        found = least if least < 0 else most
        raise error(f"{where} holds ids outside 0 to {size - 1} ({found}){tail_of(hint)}")


def _parse(file: BinaryIO) -> Header:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file, _LONGEST_HEADER)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file, _LONGEST_HEADER)
    else:
        raise ValueError(f"version {version} of the format is not read")
    return Header(shape, dtype, fortran, file.tell())
