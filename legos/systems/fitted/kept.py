"""Checkpoints of fitted baselines.

A dense array is a tensor under its own name; of a sparse matrix its three arrays are, and its shape
stands in ``state.json``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from scipy import sparse
from torch import Tensor

from legos.baselines.base import Arrays
from legos.errors import CheckpointError
from legos.records import Count
from legos.runs.checkpoint import Checkpoint, StateRecord, read_checkpoint, write_checkpoint

_PARTS = ("data", "indices", "indptr")


class FittedRecord(StateRecord):
    """``state.json`` of a fitted baseline."""

    system: Literal["fitted"]
    run: str
    method: str
    items: Count
    """Of the tables that it was fitted to."""
    stages: Count
    """That are done."""
    sparse: dict[str, Annotated[list[Count], Field(min_length=2, max_length=2)]]
    """By name the shape of each sparse matrix."""


def keep(folder: Path, learned: Arrays, *, run: str, method: str, items: int, stages: int) -> None:
    """Write a checkpoint; the arguments are those of :class:`FittedRecord`."""
    tensors: dict[str, Tensor] = {}
    shapes: dict[str, list[int]] = {}
    for name, array in learned.items():
        if sparse.issparse(array):
            shapes[name] = list(array.shape)
            parts = {f"{name}/{part}": getattr(array, part) for part in _PARTS}
        else:
            parts = {name: array}
        tensors |= {
            key: torch.from_numpy(np.ascontiguousarray(each)) for key, each in parts.items()
        }
    state = {
        "system": "fitted",
        "run": run,
        "method": method,
        "items": items,
        "stages": stages,
        "sparse": shapes,
    }
    write_checkpoint(folder, Checkpoint(model=tensors, state=state))


def kept(folder: Path, *, method: str, items: int) -> tuple[Arrays, FittedRecord]:
    """Read a checkpoint.

    Args:
        folder: of the checkpoint.
        method: that is to go on from it.
        items: of the tables.

    Raises:
        CheckpointError: damaged, of another system or method, or of other tables.
    """
    checkpoint = read_checkpoint(folder, FittedRecord)
    state = FittedRecord.model_validate(checkpoint.state)
    if state.method != method:
        raise CheckpointError(f"{folder}: a fitted {state.method}; expected {method}")
    if state.items != items:
        raise CheckpointError(
            f"{folder}: fitted to {state.items:,} items; the tables have {items:,}"
        )
    arrays = {name: tensor.numpy() for name, tensor in checkpoint.model.items()}
    found: dict[str, Any] = {name: each for name, each in arrays.items() if "/" not in name}
    for name, shape in state.sparse.items():
        parts = [arrays.get(f"{name}/{part}") for part in _PARTS]
        if any(part is None for part in parts):
            raise CheckpointError(f"{folder}: no sparse matrix {name!r} among its tensors")
        try:
            found[name] = sparse.csr_matrix(tuple(parts), shape=tuple(shape))
            found[name].check_format()
        except ValueError as error:
            raise CheckpointError(f"{folder}: {name}: no sparse matrix ({error})") from None
    return found, state
