"""``click_probability.tsv``: what a generator knows, the true click probability of candidates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from legos.data.ragged import from_lengths
from legos.errors import DataError
from process.mind.behaviors import Behaviors
from process.spans import split_at_spaces
from process.tsv import Block, read_blocks

COLUMNS = ("impression id", "click probabilities")


def read_click_probability(path: Path, behaviors: Behaviors) -> np.ndarray:
    """Read the probabilities of every candidate of a behaviors file.

    Args:
        path: ``click_probability.tsv``: impression id, TAB, one number a candidate.
        behaviors: the file they belong to; impressions may stand in another order.

    Returns:
        ``(M,)`` float32 aligned with ``behaviors.candidates``.

    Raises:
        DataError: with file and line: an unknown, missing or repeated impression, another number
            of candidates, or no probability.
    """
    known = pd.Index(behaviors.impression_id, dtype=object)
    counts = behaviors.candidates.lengths
    rows: list[np.ndarray] = []
    values: list[np.ndarray] = []
    for block in read_blocks(path, COLUMNS):
        found = known.get_indexer(pd.Index(block.columns["impression id"], dtype=object))
        values.append(_parse(block, found, counts, behaviors.path))
        rows.append(found)
    order = np.concatenate(rows)
    missing = np.setdiff1d(np.arange(len(known)), order)
    if len(missing) or len(order) != len(known):
        what = f"lacks impression {known[missing[0]]!r}" if len(missing) else "repeats impressions"
        raise DataError(f"{path}: {what} of {behaviors.path}; expected each of them once")
    lists = from_lengths(np.concatenate(values), counts[order])
    aligned: np.ndarray = lists.select(np.argsort(order)).values
    return aligned


def _parse(block: Block, rows: np.ndarray, counts: np.ndarray, behaviors: Path) -> np.ndarray:
    unknown = np.flatnonzero(rows < 0)
    if len(unknown):
        name = block.columns["impression id"][unknown[0]]
        raise DataError(f"{block.at(int(unknown[0]))}: impression {name!r} is not in {behaviors}")
    texts = block.columns["click probabilities"]
    found = np.diff(split_at_spaces(texts).offsets)
    wrong = np.flatnonzero(found != counts[rows])
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{block.at(row)}: {found[row]} probabilities, the impression has "
            f"{counts[rows[row]]} candidates in {behaviors}"
        )
    numbers = np.array(" ".join(texts.tolist()).split(), dtype=object)
    values = pd.to_numeric(pd.Series(numbers), errors="coerce").to_numpy(dtype=np.float64)
    bad = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if len(bad):
        row = int(np.searchsorted(np.cumsum(found), bad[0], side="right"))
        raise DataError(
            f"{block.at(row)}: {numbers[bad[0]]!r} is no click probability, expected 0 to 1"
        )
    return values.astype(np.float32)
