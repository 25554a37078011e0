"""Interactions of large files: parts that other processes make, put together at the end.

Ids stay as bytes, once a part, until all are there. A dict of millions of Python strings takes more
memory than everything else, and asking it once an id and part more time than unpacking the file.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from process.interactions.rows import Interactions, ordered_interactions

_IDS = pa.dictionary(pa.int32(), pa.large_string())
_MANY = 1 << 20


@dataclass(frozen=True)
class Part:
    """``k`` interactions.

    Attributes:
        users, items: ``(k,)`` ids, each distinct one once.
        rating: ``(k,)`` float32 stars, NaN = unknown.
        time: ``(k,)`` int64 Unix seconds, -1 = unknown.
        content: 8 bytes each, a hash of all that is said about it (``line_hash``).
    """

    users: pa.DictionaryArray
    items: pa.DictionaryArray
    rating: np.ndarray
    time: np.ndarray
    content: bytes

    @classmethod
    def of(
        cls,
        users: Sequence[str],
        items: Sequence[str],
        rating: Sequence[float] | np.ndarray,
        time: Sequence[int] | np.ndarray,
        content: bytes,
    ) -> Part:
        """From columns."""
        return cls(
            pa.array(users, _IDS.value_type).dictionary_encode(),
            pa.array(items, _IDS.value_type).dictionary_encode(),
            np.asarray(rating, dtype=np.float32),
            np.asarray(time, dtype=np.int64),
            content,
        )


class Parts:
    """Grows interactions part by part."""

    def __init__(self) -> None:
        self._users, self._items = _Ids(), _Ids()
        self._rating, self._time, self._content = array("f"), array("q"), bytearray()

    def extend(self, part: Part) -> None:
        """Add a part behind all there is."""
        self._users.extend(part.users)
        self._items.extend(part.items)
        self._rating.frombytes(part.rating.tobytes())
        self._time.frombytes(part.time.tobytes())
        self._content += part.content

    def done(self) -> Interactions:
        """The interactions in the order they came; users ordered by id, items by its hash.

        The ids are gone afterwards.
        """
        user_ids, user = self._users.done()
        item_ids, item = self._items.done()
        return ordered_interactions(
            user_ids, user, item_ids, item, rating=self._rating, time=self._time,
            content=self._content,
        )  # fmt: skip


class _Ids:
    """Ids of rows that come in parts, which become one as often as there are many."""

    def __init__(self) -> None:
        self._parts: list[pa.DictionaryArray] = []
        self._known = self._entries = 0

    def extend(self, part: pa.DictionaryArray) -> None:
        self._parts.append(part)
        self._entries += len(part.dictionary)
        if self._entries > 2 * self._known + _MANY:
            self._unite()

    def _unite(self) -> None:
        one = pa.chunked_array(self._parts, _IDS).unify_dictionaries().combine_chunks()
        self._parts = [one]
        self._known = self._entries = len(one.dictionary)

    def done(self) -> tuple[list[str], np.ndarray]:
        """Distinct ids, and ``(K,)`` int32: which of them every row has."""
        self._unite()
        rows = self._parts.pop()
        return rows.dictionary.to_pylist(), rows.indices.to_numpy()
