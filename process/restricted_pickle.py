"""Reading an old pickled ``.npy`` without running anything it may contain.

A pickle is a program; ``np.load(allow_pickle=True)`` runs it. Here the only names it may use are
the three of numpy's array reconstruction, and even these are stand-ins: arrays are rebuilt from
checked shape, type and bytes, never by numpy's own ``__setstate__``, which trusts what it is given.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from legos.errors import DataError

_PLAIN_KINDS = "biufSU"  # numpy kinds whose bytes are values and nothing else


def load_pickled_npy(path: Path) -> Any:
    """Read a ``.npy`` whose array holds Python objects.

    Returns:
        The array; for a single object (shape ``()``, as ``np.save`` writes a dict) the object. Only
        dict, list, tuple, set, str, bytes, numbers, None and plain arrays can occur in it.

    Raises:
        DataError: missing, cut short, not a ``.npy``, or a name that is refused.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, _, dtype = read_header(file)
        except (ValueError, KeyError) as error:
            raise DataError(f"{path}: not a .npy file ({error})") from None
        if not dtype.hasobject:
            raise DataError(f"{path}: holds {dtype}, expected pickled objects; use numpy.load")
        value = restricted_load(file, str(path))
    return value.item() if shape == () and isinstance(value, np.ndarray) else value


def restricted_loads(data: bytes, source: str) -> Any:
    """``restricted_load`` of bytes."""
    return restricted_load(io.BytesIO(data), source)


def restricted_load(file: BinaryIO, source: str) -> Any:
    """Unpickle builtin containers, str, bytes, numbers and plain numpy arrays.

    Args:
        file: positioned at the pickle.
        source: what to call it in an error.

    Raises:
        DataError: any other class or function (nothing of it is run), or a damaged pickle.
    """
    try:
        return _resolve(_Unpickler(file, source).load(), {})
    except DataError:
        raise
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError) as error:
        raise DataError(f"{source}: damaged or cut short pickle ({error})") from None
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise DataError(f"{source}: the pickle does not describe plain data ({error})") from None


class _Dtype:
    """Stand-in for ``numpy.dtype``: a type code, and a byte order from the state."""

    def __init__(self, code: str, align: object = False, copy: object = True) -> None:
        self.dtype = np.dtype(code) if isinstance(code, str) else np.dtype("V1")
        if self.dtype.kind not in _PLAIN_KINDS + "O":
            raise ValueError(f"array type {code!r} is not plain")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if self.dtype.kind != "O" and state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stand-in for ``numpy.ndarray``: keeps the state until the whole pickle is read."""

    def __init__(self, *_: object) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def build(self, memo: dict[int, Any]) -> np.ndarray:
        """The array that the state describes."""
        _, shape, kind, fortran, data = self.state
        if not isinstance(kind, _Dtype) or not all(type(size) is int for size in shape):
            raise ValueError("an array without shape and type")
        if kind.dtype.kind == "O" and isinstance(data, list):
            flat = np.empty(len(data), dtype=object)
            for position, value in enumerate(data):
                flat[position] = _resolve(value, memo)
        elif kind.dtype.kind != "O" and isinstance(data, bytes):
            flat = np.frombuffer(data, dtype=kind.dtype).copy()
        else:
            raise ValueError(f"an array of {kind.dtype} made of {type(data).__name__}")
        return flat.reshape(shape, order="F" if fortran else "C")


def _resolve(value: Any, memo: dict[int, Any]) -> Any:
    """Replace the stand-ins in nested containers by real arrays.

    ``memo`` keeps what is shared shared: without it a few hundred bytes of nested references could
    unfold to more than the memory holds.
    """
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return value
    if id(value) not in memo:
        resolved: Any
        if isinstance(value, _Array):
            resolved = value.build(memo)
        elif isinstance(value, dict):
            resolved = {_resolve(key, memo): _resolve(item, memo) for key, item in value.items()}
        elif isinstance(value, list | tuple | set | frozenset):
            resolved = type(value)(_resolve(item, memo) for item in value)
        else:
            raise ValueError(f"{type(value).__name__} is not plain data")
        memo[id(value)] = resolved
    return memo[id(value)]


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, source: str) -> None:
        super().__init__(file)
        self.source = source

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Every class or function of a pickle is looked up here; all but a few are refused."""
        allowed = _ALLOWED.get((module, name))
        if allowed is None:
            raise DataError(
                f"{self.source}: the pickle asks for {module}.{name}; only plain containers, text, "
                "numbers and numpy arrays are read; nothing was executed. If the file is not "
                "what you expected, do not open it with pickle or numpy.load either"
            )
        return allowed
