"""Sparse item-item products, page by page, keeping only the strongest entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy import sparse

_ROWS_AT_ONCE = 1024  # bounds a page of the product, however dense its rows are


def strongest(rows: sparse.csr_matrix, count: int | None) -> sparse.csr_matrix:
    """The largest entries of each row; of equal ones those of the first columns. None: all."""
    if count is None or not rows.nnz or np.diff(rows.indptr).max() <= count:
        return rows
    owner = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    order = np.lexsort((rows.indices, -rows.data, owner))
    place = np.arange(rows.nnz) - rows.indptr[owner]
    kept = np.sort(order[place < count])
    bounds = np.concatenate([[0], np.cumsum(np.minimum(np.diff(rows.indptr), count))])
    return sparse.csr_matrix((rows.data[kept], rows.indices[kept], bounds), shape=rows.shape)


def in_pages(
    count: int, page: Callable[[slice], sparse.csr_matrix], kept: int | None
) -> sparse.csr_matrix:
    """Stack pages of rows, the ``kept`` strongest entries of each row.

    Args:
        count: rows in all.
        page: gives some of them.
        kept: entries of a row; None: all.
    """
    return sparse.vstack([strongest(page(rows), kept) for rows in pages(count)]).tocsr()


def strongest_others(
    left: sparse.csr_matrix, right: sparse.csr_matrix, kept: int | None
) -> sparse.csr_matrix:
    """The strongest entries off the diagonal of each row of ``left @ right`` ``(n, n)``, or all."""

    def page(part: slice) -> sparse.csr_matrix:
        found = (left[part] @ right).tocoo()
        others = found.row + part.start != found.col
        entries = found.data[others], (found.row[others], found.col[others])
        return sparse.csr_matrix(entries, shape=found.shape)

    return in_pages(left.shape[0], page, kept)


def pages(count: int, size: int = _ROWS_AT_ONCE) -> Iterator[slice]:
    """Slices of at most ``size`` that cover ``count`` rows."""
    yield from (slice(begin, min(begin + size, count)) for begin in range(0, count, size))


def product_bytes(reads: sparse.csr_matrix, rows: int) -> int:
    """Maximum bytes of a sparse product of ``rows`` items with all others."""
    lengths = np.diff(reads.indptr).astype(np.int64)
    entries: int = min(int((lengths**2).sum()), rows * reads.shape[1])
    return entries * 8  # a float32 and an int32
