"""``.npy`` files, read in one place: the header is checked before a byte of the numbers is used.

``numpy.load`` believes a header: other types, byte orders and shapes become other numbers, and a
file that is no ``.npy`` becomes an archive. Here a file is what the caller expects, to the byte.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from legos.errors import DataError
from legos.records import MakeError, tail_of

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
        LegosError: ``error``; missing, no ``.npy``, of Python objects, cut short or too long.
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
        error: which error is raised.
        hint: what to do, the end of the message.

    Raises:
        LegosError: ``error``; see :func:`read_header`, or another type or shape than expected.
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
    """See that ``(N + 1,)`` offsets begin at 0, never fall and end at the last of ``count`` values.

    Raises:
        LegosError: ``error``; they do not.
    """
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
    """See that all ids lie in a vocabulary of ``size`` entries.

    Raises:
        LegosError: ``error``; one does not.
    """
    if values.size == 0:
        return
    least, most = int(values.min()), int(values.max())
    if least < 0 or most >= size:
        found = least if least < 0 else most
        tail = tail_of(hint)
        raise error(f"{where} holds ids outside 0 to {size - 1} ({found}){tail}")


def _parse(file: BinaryIO) -> Header:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file, _LONGEST_HEADER)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file, _LONGEST_HEADER)
    else:
        raise ValueError(f"version {version} of the format is not read")
    return Header(shape, dtype, fortran, file.tell())
