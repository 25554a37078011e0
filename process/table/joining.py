"""Ids of one file in those of another: ``7``, ``7.0`` and ``007`` may be the same thing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from legos.errors import DataError

_FLOAT = re.compile(r"(\d+)\.0+")
_ZEROS = re.compile(r"^0+(?=\d)")


@dataclass(frozen=True)
class Joined:
    """How ids were found.

    Attributes:
        rows: ``(n,)`` int64 the row of each id among the known ones, -1 = unknown.
        note: what had to be done to find them; "" where nothing.
    """

    rows: np.ndarray
    note: str = ""


def join_ids(ids: Sequence[str], known: Sequence[str], label: str, known_label: str) -> Joined:
    """Find ids among known ones, as they are or as the numbers that they are written for.

    Args:
        ids: of one file, distinct.
        known: of the other one, distinct.
        label, known_label: what the files are called.

    Raises:
        DataError: the ids are numbers in two ways of writing, and more than one of them would be
            the same number.
    """
    exact = _find(ids, known)
    if (exact >= 0).all():
        return Joined(exact)
    plain_ids, plain_known = [as_number(name) for name in ids], [as_number(name) for name in known]
    if plain_ids == list(ids) and plain_known == list(known):
        return Joined(exact)
    loose = _find(plain_ids, plain_known)
    gained = np.flatnonzero((exact < 0) & (loose >= 0))
    if not len(gained):
        return Joined(exact)
    first = int(gained[0])
    example = f"{ids[first]!r} of {label} is {known[int(loose[first])]!r} of {known_label}"
    for names, plains, where in ((known, plain_known, known_label), (ids, plain_ids, label)):
        if len(set(plains)) < len(plains):
            one, other = _same(names, plains)
            raise DataError(
                f"{example}? {where} has both {one!r} and {other!r}, so that it cannot be told; "
                "write the ids alike in all files"
            )
    return Joined(loose, f"ids are numbers written in two ways: {example}")


def refuse_two_writings(codes: Mapping[str, int], at: Callable[[int], str]) -> None:
    """Raise DataError where ``7`` and ``7.0`` are two names, so that one would count as two.

    Args:
        codes: name -> number.
        at: place where the name of a number stands.
    """
    for name, code in codes.items():
        whole = _FLOAT.fullmatch(name) if name.endswith("0") else None
        if whole is not None and whole[1] in codes:
            raise DataError(
                f"{at(code)}: id {name!r} is {whole[1]!r} in {at(codes[whole[1]])}: one number in "
                "two ways of writing; write the ids alike in all files (pandas: as Int64, or text)"
            )


def as_number(name: str) -> str:
    """``7`` for ``7.0`` and ``007``; all else as it is."""
    whole = _FLOAT.fullmatch(name)
    name = whole[1] if whole else name
    return _ZEROS.sub("", name) if name.isascii() and name.isdigit() else name


def _find(ids: Sequence[str], known: Sequence[str]) -> np.ndarray:
    rows = {name: row for row, name in enumerate(known)}
    return np.fromiter((rows.get(name, -1) for name in ids), np.int64, len(ids))


def _same(names: Sequence[str], plains: Sequence[str]) -> tuple[str, str]:
    seen: dict[str, str] = {}
    for name, plain in zip(names, plains, strict=True):
        if plain in seen:
            return seen[plain], name
        seen[plain] = name
    raise AssertionError("no two are the same")
