"""EASE^R: linear weights between items that best reconstruct the reads, in closed form.

Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019: B minimises
``|X - X B|^2 + l2 |B|^2`` with a diagonal of zeros, so ``B = -P / diag(P)`` off the diagonal with
``P = (X'X + l2 I)^-1``. With ``neighbours`` a column of B has weights of the item's nearest alone,
and they minimise the same loss among these: a ridge SLIM (Ning and Karypis, ICDM 2011) in closed
form, whose memory grows with items x neighbours. Not in the papers.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

from legos.baselines.base import Arrays, HistoryBaseline, HistoryScores, MatrixConfig
from legos.baselines.data import FitData
from legos.baselines.local_systems import LocalSystems, Solver, local_weights, nearest
from legos.baselines.neighbours import pages
from legos.errors import DataError
from legos.registry import baselines
from legos.settings import Count, Positive


class EASEConfig(MatrixConfig):
    name: Literal["ease"] = "ease"
    l2: Positive = 300.0
    """Weight of the squared weights; sparse data need less (the paper's best: 200 to 1000)."""
    neighbours: Count | None = None
    """Nearest items, by the cosine of their users, that an item has weights for; null: all, in a
    matrix of items x items x 4 bytes."""


@baselines.register(EASEConfig)
class EASE(HistoryBaseline[EASEConfig]):
    """Weights between the items that were read in training; others score 0."""

    title = "EASE"

    def learn(self, data: FitData) -> Arrays:
        """Solve for the weights.

        Raises:
            OutOfMemory: the full matrix does not fit.
        """
        settings = self.settings
        known = np.flatnonzero(data.popularity)
        reads = data.reads[:, known].tocsr()
        if settings.neighbours is not None:
            near = nearest(reads, settings.neighbours)
            found = local_weights(reads, near, ridge(settings.l2))
            return {"weights": found, "known": known, "items": data.items}
        size = 4 * len(known) ** 2
        what = f"a matrix of {len(known):,} x {len(known):,} items"
        settings.refuse_larger(size, what, "neighbours: 100")
        weights = closed_form(gram(reads), settings.l2)
        return {"weights": weights, "known": known, "items": data.items}

    def scorer(self, learned: Arrays) -> HistoryScores:
        """Sums of weights."""
        return weighted_sums(learned["weights"], learned["known"], learned["items"])


def weighted_sums(
    weights: np.ndarray | sparse.csr_matrix, known: np.ndarray, items: np.ndarray
) -> HistoryScores:
    """Return a scorer: sums of the weights of a history's items, each counted once.

    Args:
        weights: from items to items, both of ``known``.
        known: ``(n,)`` the numbers of these items, ascending.
        items: ``(m,)`` those that are scored, ascending.
    """
    _, from_known, to_items = np.intersect1d(known, items, return_indices=True)

    def scores(histories: sparse.csr_matrix) -> np.ndarray:
        found = np.zeros((histories.shape[0], len(items)), np.float32)
        product = histories[:, known].sign() @ weights
        dense = product.toarray() if sparse.issparse(product) else product
        found[:, to_items] = dense[:, from_known]
        return found

    return scores


def gram(reads: sparse.csr_matrix) -> np.ndarray:
    """``(n, n)`` float32 number of users that two items have in common, made in pages."""
    by_item, count = reads.T.tocsr(), reads.shape[1]
    found = np.empty((count, count), np.float32)
    for part in pages(count):
        found[part] = (by_item[part] @ reads).toarray()
    return found


def closed_form(product: np.ndarray, l2: float) -> np.ndarray:
    """EASE's weights from X'X ``(n, n)``, which is overwritten.

    Raises:
        DataError: the matrix is singular in its precision.
    """
    count = len(product)
    product[np.diag_indices(count)] += l2
    factor, invert = lapack.get_lapack_funcs(("potrf", "potri"), (product,))
    lower, failed = factor(product.T, lower=1, overwrite_a=1)  # a view in Fortran's order
    if not failed:
        inverse, failed = invert(lower, lower=1, overwrite_c=1)
    if failed:
        raise DataError(f"baseline ease: no inverse in {product.dtype} with l2 {l2:g}; give more")
    for part in pages(count):  # the upper triangle still holds the product
        inverse[part, part.stop :] = inverse[part.stop :, part].T
        square = inverse[part, part]
        inverse[part, part] = np.tril(square) + np.tril(square, -1).T
    inverse /= -np.diag(inverse).copy()
    inverse[np.diag_indices(count)] = 0
    weights: np.ndarray = inverse
    return weights


def ridge(l2: float) -> Solver:
    """Return a solver of ridge-regularised linear systems."""

    def solve(systems: LocalSystems) -> np.ndarray:
        products, right = systems
        places = np.arange(right.shape[1])
        products[:, places, places] += np.float32(l2)
        found: np.ndarray = np.linalg.solve(products, right[..., None])[..., 0]
        return found

    return solve
