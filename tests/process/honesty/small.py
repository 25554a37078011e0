"""Small data sets of lists, as the report takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from legos.data.ragged import Ragged, RaggedArray, offsets_of
from process.honesty import Evidence
from process.tokenization import Column


class Row(NamedTuple):
    """One impression: user, history, candidates, labels, time."""

    user: int
    history: Sequence[int]
    candidates: Sequence[int]
    labels: Sequence[int]
    time: int = -1


def lists(rows: Sequence[Sequence[int]], dtype: str = "int32") -> RaggedArray:
    """Rows of numbers."""
    values = np.array([value for row in rows for value in row], dtype=dtype)
    return Ragged(values, offsets_of(np.array([len(row) for row in rows], dtype=np.int64)))


def evidence(
    splits: Mapping[str, Sequence[Row]],
    *,
    ids: Sequence[str],
    texts: Mapping[str, Sequence[str]] | None = None,
    reviews: Sequence[tuple[int, int]] = (),
) -> Evidence:
    """A data set; ``reviews``: (user, time) of interactions."""
    every = [row for rows in splits.values() for row in rows]
    tables: dict[str, dict[str, Column]] = {
        "items": {"item_id": Column(np.arange(len(ids)))},
        "histories": {"items": Column(lists([row.history for row in every]))},
    }
    begin = 0
    for name, rows in splits.items():
        tables[name] = {
            "user_id": Column(np.array([row.user for row in rows], dtype=np.int32)),
            "time": Column(np.array([row.time for row in rows], dtype=np.int64)),
            "history": Column(np.arange(begin, begin + len(rows))),
            "candidates": Column(lists([row.candidates for row in rows])),
            "labels": Column(lists([row.labels for row in rows], "int8")),
        }
        begin += len(rows)
    if reviews:
        columns = np.array(reviews, dtype=np.int64)
        tables["reviews"] = {"user_id": Column(columns[:, 0]), "time": Column(columns[:, 1])}
    return Evidence(tables, {"item_id": list(ids)}, dict(texts or {}))
