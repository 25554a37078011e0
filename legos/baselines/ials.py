"""iALS: matrix factorisation whose products are near 1 for reads and near 0 elsewhere.

Hu, Koren, Volinsky, ICDM 2008, in the form and with the regularisation of Rendle, Krichene, Zhang,
Koren, "Revisiting the Performance of iALS on Item Recommendation Benchmarks", RecSys 2022,
equations 1 to 3: the loss is the squared error of what was read, ``unobserved`` times the squared
product of every user with every item, and ``l2`` times the squared norms, each weighted by
``(own interactions + unobserved * all of the other side) ** scale``. Users and items are solved for
in turn, exactly; a history is scored by the vector that solves for it.

Not in the papers: vectors are turned so that what all rows share is diagonal. A row with fewer
entries than factors then needs a system of as many equations as it has entries, and rows of one
length share all but these.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from legos.baselines.base import Arrays, HistoryBaseline, HistoryScores
from legos.baselines.data import FitData
from legos.baselines.neighbours import pages
from legos.registry import BaselineConfig, baselines
from legos.settings import Count, NotNegative, Positive, Seed

_NUMBERS_AT_ONCE = 2**18  # of the vectors that systems are summed from: they fit a cache


class IALSConfig(BaselineConfig):
    name: Literal["ials"] = "ials"
    factors: Count = 64
    """Width of the vectors."""
    iterations: Count = 16
    """Of solving for users, then items (the paper)."""
    unobserved: Positive = 0.03
    """Weight of what was not read (the paper's alpha_0, .1 on MovieLens); the default is the best
    of Amazon Beauty's valid split."""
    l2: Positive = 0.001
    """Weight of the norms (the paper's lambda, .003 on MovieLens); the same. More than .01 beside
    many users who read little makes all vectors small."""
    scale: NotNegative = 1.0
    """Power of a row's weight in the norms (the paper's nu): 1 regularises by frequency."""
    deviation: Positive = 0.1
    """Of the first vectors, divided by the root of their width (the paper)."""
    seed: Seed | None = None
    """Of the first vectors; null: 1, or `exp.train.seed` where it is the model itself."""


@baselines.register(IALSConfig)
class IALS(HistoryBaseline[IALSConfig]):
    """Item vectors by alternating least squares; users are solved for when they are scored."""

    title = "iALS"

    def learn(self, data: FitData) -> Arrays:
        """Solve for users and items alternately."""
        *_, learned = self.stages(data)
        return learned

    def stages(self, data: FitData, begun: Arrays | None = None, done: int = 0) -> Iterator[Arrays]:
        """The vectors after each iteration."""
        known = np.flatnonzero(data.popularity)
        readers = np.diff(data.reads.indptr) > 0
        reads = data.reads[readers][:, known].tocsr()
        first = None if begun is None else torch.from_numpy(begun["vectors"][known])
        for items in self.iterations(reads, first, self.settings.iterations - done):
            vectors = np.zeros((data.reads.shape[1], self.settings.factors), np.float32)
            vectors[known] = items.numpy()
            yield {"vectors": vectors, "known": known, "items": data.items}

    def scorer(self, learned: Arrays) -> HistoryScores:
        """Products of a history's solution with the vectors of items."""
        shown = learned["vectors"][learned["items"]]
        return lambda histories: self.reader_vectors(learned, histories) @ shown.T

    def item_vectors(self, learned: Arrays) -> np.ndarray:
        """Vectors of all items; zeros for items that nobody read."""
        vectors: np.ndarray = learned["vectors"]
        return vectors

    def reader_vectors(self, learned: Arrays, histories: sparse.csr_matrix) -> np.ndarray:
        """The vector of each history's reader."""
        known = learned["known"]
        items = torch.from_numpy(learned["vectors"][known])
        found: np.ndarray = self.solved(histories[:, known].sign(), items).numpy()
        return found

    def first_vectors(self, items: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Random initial vectors ``(items, factors)``."""
        settings = self.settings
        generator = torch.Generator().manual_seed(1 if settings.seed is None else settings.seed)
        found = torch.randn(items, settings.factors, generator=generator, dtype=dtype)
        return found.mul_(settings.deviation / settings.factors**0.5)

    def iterations(
        self, reads: sparse.csr_matrix, items: Tensor | None, count: int
    ) -> Iterator[Tensor]:
        """``(items, factors)`` after each of ``count`` iterations.

        Args:
            reads: ``(users, items)`` of 0 and 1; nobody and nothing without any.
            items: vectors to begin with; None: those at random.
            count: of iterations.
        """
        by_item = reads.T.tocsr()
        items = self.first_vectors(reads.shape[1]) if items is None else items
        for _ in range(count):
            items = self.solved(by_item, self.solved(reads, items))
            yield items

    def solved(self, reads: sparse.csr_matrix, others: Tensor) -> Tensor:
        """Solve for the best vector of each row.

        Args:
            reads: ``(n, m)`` of 0 and 1, each pair once.
            others: ``(m, D)`` vectors of the columns.

        Returns:
            ``(n, D)`` of the same precision; 0 for a row without entries.
        """
        settings, lengths = self.settings, np.diff(reads.indptr)
        width = others.shape[1]
        values, basis = torch.linalg.eigh((settings.unobserved * (others.T @ others)).double())
        basis = basis.to(others.dtype)
        turned = others @ basis
        weights = settings.l2 * (lengths + settings.unobserved * reads.shape[1]) ** settings.scale
        found = others.new_zeros(reads.shape[0], width)
        for length in np.unique(lengths[lengths > 0]).tolist():
            rows = np.flatnonzero(lengths == length)
            diagonal = (values.clamp(min=0) + weights[rows[0]]).to(others.dtype)
            solve = _solve_by_entries if length < width else _solve_by_factors
            for part in pages(len(rows), max(1, _NUMBERS_AT_ONCE // (width * length))):
                begins = reads.indptr[rows[part]].astype(np.int64)
                columns = reads.indices[begins[:, None] + np.arange(length)]
                read = turned[torch.from_numpy(columns.astype(np.int64))]
                found[torch.from_numpy(rows[part])] = solve(read, diagonal)
        return found.matmul(basis.T)


def _solve_by_entries(read: Tensor, diagonal: Tensor) -> Tensor:
    """Solve as :func:`_solve_by_factors`, with systems of L equations (Woodbury's identity)."""
    scale = diagonal.rsqrt()
    read = read * scale
    systems = read @ read.mT
    systems.diagonal(dim1=1, dim2=2).add_(1)
    ones = read.new_ones(len(read), read.shape[1], 1)
    solution = torch.cholesky_solve(ones, torch.linalg.cholesky(systems))
    return (solution.mT @ read)[:, 0] * scale


def _solve_by_factors(read: Tensor, diagonal: Tensor) -> Tensor:
    """``x`` of ``(R'R + diag(d)) x = R'1`` for each row.

    Args:
        read: ``(n, L, D)``: an R for each row.
        diagonal: ``(D,)``: d.
    """
    systems = read.mT @ read
    systems.diagonal(dim1=1, dim2=2).add_(diagonal)
    factors = torch.linalg.cholesky(systems)
    return torch.cholesky_solve(read.sum(1)[..., None], factors)[..., 0]
