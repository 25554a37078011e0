"""Vectors and semantic codes of whole items, read from files and brought into the items' order."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from legos.data.tables import Tables


def read_item_vectors(path: Path | None, tables: Tables) -> Tensor | None:
    """``(items, E)`` float32; a row of NaN for an item the file does not have."""
    return None


def read_item_codes(path: Path | None, tables: Tables) -> Tensor | None:
    """``(items, L)`` int64; a row of -1 for an item the file does not have."""
    return None
