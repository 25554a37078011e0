"""Residual quantisation: every level codes what the levels before it left over.

Rajput et al., "Recommender Systems with Generative Retrieval" (TIGER), NeurIPS 2023, section 3.1.
There an RQ-VAE learns encoder and codebooks together; here the vectors are quantised as they are,
by k-means level after level, which needs no training and is TIGER's start of each codebook.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from legos.blocks.kmeans import kmeans


@dataclass(frozen=True)
class Level:
    """What one level did.

    Attributes:
        error: mean squared distance between the vectors and what the codes so far say of them.
        left: that error as a share of the vectors' variance.
        used: codes of this level that any item has.
        colliding: items that share all codes so far with another.
    """

    error: float
    left: float
    used: int
    colliding: int


@dataclass(frozen=True)
class Quantised:
    """Vectors as codes.

    Attributes:
        codes: ``(N, L)`` int64.
        codebooks: per level ``(K, E)``; a vector is about the sum of its codes' rows.
        levels: what each did.
    """

    codes: Tensor
    codebooks: list[Tensor]
    levels: list[Level]


def quantise(
    vectors: Tensor,
    *,
    levels: int,
    size: int,
    seed: int,
    iterations: int = 50,
    advance: Callable[[int], None] = lambda done: None,
) -> Quantised:
    """Residual k-means; the same seed gives the same codes.

    Args:
        vectors: ``(N, E)`` floating point.
        levels: L.
        size: K, codes a level.
        seed: of the starts.
        iterations: of each level, at most.
        advance: told of the iterations done, of ``levels * iterations``.
    """
    generator = torch.Generator().manual_seed(seed)
    variance = float((vectors - vectors.mean(0)).square().sum(1).mean())
    residual, codes = vectors, torch.empty(len(vectors), 0, dtype=torch.int64)
    codebooks, reports = [], []
    for level in range(levels):
        before = level * iterations
        found = kmeans(
            residual,
            size,
            generator=generator,
            iterations=iterations,
            advance=_after(before, advance),
        )
        advance(before + iterations)
        residual = residual - found.centres[found.codes]
        codes = torch.cat([codes, found.codes[:, None]], 1)
        codebooks.append(found.centres)
        error = float(residual.square().sum(1).mean())
        reports.append(
            Level(
                error=error,
                left=error / variance if variance > 0 else 0.0,
                used=len(found.codes.unique()),
                colliding=colliding(codes),
            )
        )
    return Quantised(codes, codebooks, reports)


def _after(before: int, advance: Callable[[int], None]) -> Callable[[int], None]:
    return lambda done: advance(before + done)


def colliding(codes: Tensor) -> int:
    """Items whose list of codes another item has, too."""
    _, counts = torch.unique(codes, dim=0, return_counts=True)
    return int(counts[counts > 1].sum())


def without_collisions(codes: Tensor) -> Tensor:
    """``(N, L + 1)``: a last level that numbers the items of identical codes, 0, 1, 2, ..."""
    _, group = np.unique(codes.numpy(), axis=0, return_inverse=True)
    group = group.reshape(-1)
    order = np.argsort(group, kind="stable")
    first = np.searchsorted(group[order], group[order])  # where an item's group starts
    number = np.empty(len(codes), dtype=np.int64)
    number[order] = np.arange(len(codes)) - first
    return torch.cat([codes, torch.from_numpy(number)[:, None]], 1)
