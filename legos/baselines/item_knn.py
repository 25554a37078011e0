"""Mean similarity of an item to those of the history, by the users who read both.

Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001, section
3.1.1, on implicit feedback. TF-IDF and BM25 weights, under which a user who reads everything says
little, as in library ``implicit``; shrinkage as in Bell and Koren, ICDM 2007, section 3.1.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from scipy import sparse

from legos.baselines.base import Arrays, HistoryBaseline, HistoryScores, MatrixConfig
from legos.baselines.data import FitData
from legos.baselines.neighbours import in_pages, product_bytes
from legos.registry import baselines
from legos.settings import Count, Fraction, NotNegative, OnlyWith


class ItemKNNConfig(MatrixConfig):
    name: Literal["item_knn"] = "item_knn"
    similarity: Literal["cosine", "tfidf", "bm25"] = "cosine"
    """Of two items: cosine of their users, the same with users weighted by how few items they read,
    or the product of BM25's weights, which has no norm and prefers popular items."""
    k: Count | None = None
    """Nearest items that an item is compared with; null: all."""
    shrinkage: NotNegative = 0.0
    """Of similarities that few users speak for: times users / (users + shrinkage)."""
    k1: Annotated[NotNegative, OnlyWith("similarity", ("bm25",))] = 1.2
    """BM25's saturation (library implicit)."""
    b: Annotated[Fraction, OnlyWith("similarity", ("bm25",))] = 0.75
    """BM25's weight of an item's popularity (library implicit)."""


@baselines.register(ItemKNNConfig)
class ItemKNN(HistoryBaseline[ItemKNNConfig]):
    """Item-kNN with a sparse matrix of similarities."""

    title = "item-kNN"

    def learn(self, data: FitData) -> Arrays:
        """Compute similarities between items.

        Raises:
            OutOfMemory: without ``k`` the matrix may not fit.
        """
        settings = self.settings
        if settings.k is None:
            size = product_bytes(data.reads, len(data.items))
            what = f"similarities of {len(data.items):,} x {data.reads.shape[1]:,} items"
            settings.refuse_larger(size, what, "k: 200")
        weighted = self._weighted(data)
        rows, others = weighted.T.tocsr()[data.items], weighted.tocsr()
        shown, reads = data.reads.T.tocsr()[data.items], data.reads

        def page(part: slice) -> sparse.csr_matrix:
            found = (rows[part] @ others).tocsr()
            if settings.shrinkage:
                together = (shown[part] @ reads).tocsr()
                together.data /= together.data + np.float32(settings.shrinkage)
                found = found.multiply(together).tocsr()
            return found

        similar = in_pages(len(data.items), page, settings.k)
        return {"similar": similar.T.tocsr()}  # (all items, items)

    def scorer(self, learned: Arrays) -> HistoryScores:
        """Return a scorer: mean similarity to a history's items."""
        similar = learned["similar"]
        return lambda histories: (histories @ similar).toarray()

    def _weighted(self, data: FitData) -> sparse.csr_matrix:
        """``(users, items)`` float32 whose products of columns are similarities."""
        settings, reads = self.settings, data.reads
        if settings.similarity != "cosine":
            # a user is a word, an item a text: users of few items are rare words
            rare = np.log(reads.shape[1]) - np.log1p(np.diff(reads.indptr))
            reads = sparse.diags(rare.astype(np.float32)) @ reads
        if settings.similarity == "bm25":
            long = data.popularity / max(data.popularity.mean(), 1e-12)
            saturated = settings.k1 * (1 - settings.b + settings.b * long) + 1
            scale = (settings.k1 + 1) / saturated
        else:
            norms = np.sqrt(np.asarray(reads.multiply(reads).sum(0)).ravel())
            scale = 1 / np.where(norms > 0, norms, 1)
        return (reads @ sparse.diags(scale.astype(np.float32))).tocsr()
