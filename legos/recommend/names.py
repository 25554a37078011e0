"""An unknown user or item among very many: an error that names the nearest, without a long wait."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from difflib import get_close_matches

from legos.errors import DataError

_ALL = 2_000  # names that are all compared; of more those around it in alphabetical order
_SHOWN = 3


def unknown_name(kind: str, name: str, known: Collection[str]) -> DataError:
    """The error for a user or an item that is none of the known ones."""
    names = sorted(known)
    near = names
    if len(names) > _ALL:
        place = bisect_left(names, name)
        near = names[max(0, place - _ALL // 2) : place + _ALL // 2]
    same = [each for each in near if each.casefold() == name.casefold()]
    close = same or get_close_matches(name, near, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}? " if close else ""
    some = ", ".join(repr(each) for each in names[:_SHOWN])
    return DataError(f"no {kind} {name!r}; {hint}there are {len(names):,}, such as {some}")
