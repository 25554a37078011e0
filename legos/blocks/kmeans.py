"""k-means: Arthur and Vassilvitskii, "k-means++: The Advantages of Careful Seeding", SODA 2007."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_CHUNK = 16_384  # rows whose distances to all centres are held at once
_CACHED = 2**18  # numbers of rows whose differences from one centre stay in a core's cache


@dataclass(frozen=True)
class Clusters:
    """Rows in groups around centres.

    Attributes:
        centres: ``(K, E)``.
        codes: ``(N,)`` int64 nearest centre of each row.
        distances: ``(N,)`` squared distance to it.
    """

    centres: Tensor
    codes: Tensor
    distances: Tensor


def kmeans(
    rows: Tensor,
    size: int,
    *,
    generator: torch.Generator,
    iterations: int,
    advance: Callable[[int], None] = lambda iteration: None,
) -> Clusters:
    """Lloyd's iterations from a k-means++ start, until no row changes its cluster.

    A cluster that loses all its rows starts again at the row that is farthest from its centre.

    Args:
        rows: ``(N, E)`` floating point.
        size: K; fewer clusters come out where fewer rows differ.
        generator: of the start.
        iterations: at most.
        advance: told of the iterations done.
    """
    found = assign(rows, plus_plus(rows, size, generator))
    for iteration in range(iterations):
        moved = assign(rows, _means(rows, found))
        settled = torch.equal(moved.codes, found.codes)
        found = moved
        advance(iteration + 1)
        if settled:
            break
    return found


def plus_plus(rows: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Centres ``(K, E)``: rows drawn by their squared distance to the centres drawn before."""
    chosen = int(torch.randint(len(rows), (), generator=generator))
    centres = [rows[chosen]]
    distances = _squared_distances(rows, rows[chosen])
    while len(centres) < size:
        upto = distances.double().cumsum(0)
        if upto[-1] <= 0:  # every row is a centre already
            break
        drawn = torch.rand((), generator=generator, dtype=torch.float64) * upto[-1]
        chosen = min(int(torch.searchsorted(upto, drawn, right=True)), len(rows) - 1)
        centres.append(rows[chosen])
        distances = torch.minimum(distances, _squared_distances(rows, rows[chosen]))
    return torch.stack(centres)


def assign(rows: Tensor, centres: Tensor) -> Clusters:
    """The nearest centre of every row; of equally near ones the first."""
    squares = centres.square().sum(1)
    codes = torch.cat([(squares - 2 * (part @ centres.T)).argmin(1) for part in rows.split(_CHUNK)])
    return Clusters(centres, codes, _squared_distances(rows, centres, codes))


def _squared_distances(rows: Tensor, centres: Tensor, codes: Tensor | None = None) -> Tensor:
    """``(N,)`` from each row to the one centre ``(E,)``, or to its own of ``(K, E)``."""
    parts, step = [], max(1, _CACHED // max(1, rows.shape[1]))
    for begin in range(0, len(rows), step):
        part = slice(begin, begin + step)
        centre = centres if codes is None else centres[codes[part]]
        parts.append((rows[part] - centre).square().sum(1))
    return torch.cat(parts)


def _means(rows: Tensor, clusters: Clusters) -> Tensor:
    """The mean of every cluster; empty ones take the farthest rows."""
    size = len(clusters.centres)
    counts = torch.bincount(clusters.codes, minlength=size)
    sums = torch.zeros_like(clusters.centres).index_add_(0, clusters.codes, rows)
    centres = sums / counts.clamp(min=1)[:, None]
    empty = (counts == 0).nonzero()[:, 0]
    centres[empty] = rows[clusters.distances.argsort(descending=True, stable=True)[: len(empty)]]
    return centres
