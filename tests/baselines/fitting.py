"""A small matrix of who read what, as the baselines are fitted to it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import sparse

from legos.baselines.data import FitData


def some_reads(seed: int = 0, users: int = 40, items: int = 25, share: float = 0.2) -> np.ndarray:
    """``(users, items)`` of 0 and 1; one user and one item have none."""
    reads = (np.random.default_rng(seed).random((users, items)) < share).astype(np.float64)
    reads[3], reads[:, 5] = 0, 0
    return reads


def fitted_to(reads: np.ndarray, /, **more: Any) -> FitData:
    """What a baseline sees of a dense matrix; ``more`` are further attributes."""
    data: Any = SimpleNamespace(
        reads=sparse.csr_matrix(reads.astype(np.float32)),
        popularity=reads.sum(0).astype(np.float32),
        items=np.arange(reads.shape[1]),
    )
    vars(data).update(more)
    return data  # type: ignore[no-any-return]


def as_shares(histories: np.ndarray) -> sparse.csr_matrix:
    """Dense histories as the scores of a baseline take them."""
    totals = np.maximum(histories.sum(1, keepdims=True), 1)
    return sparse.csr_matrix((histories / totals).astype(np.float32))
