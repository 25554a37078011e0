"""Exact gradient caching: items are encoded page by page, so that memory does not grow with them.

Gao, Zhang, Han and Callan, "Scaling Deep Contrastive Learning Batch Size under Memory Limited
Setup", RepL4NLP 2021 (arXiv:2101.06983). Every page is encoded twice: without a graph for its
vectors, then with one, into which the gradient at the vectors goes. Between the two the random
state is put back, so that dropout is the same. What the paper does to a loss over representations
is done here to user encoder, predictor and loss together.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from legos.data.items import ItemStore
from legos.recommender import Recommender
from legos.training.random_state import random_tensors, restore_random_tensors


class CachedItems:
    """Vectors of a batch's items, encoded a page at a time, and the way back into the encoder.

    Every page gets short and long items alike: none needs more memory than another, however many
    pages a batch has.

    Args:
        model: not wrapped for many processes.
        store: item content.
        items: ``(N,)`` int64 item ids, at least one.
        page_size: the most items encoded at once.
        autocast: makes the context of mixed precision. Each pass gets its own: the weights that
            a context has cast without a graph would have no gradient in a later pass.

    Attributes:
        vectors: ``(N, D)`` in the order of ``items``, a leaf that gathers the gradient.
    """

    def __init__(
        self,
        model: Recommender,
        store: ItemStore,
        items: Tensor,
        *,
        page_size: int,
        autocast: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._model, self._store, self._items, self._autocast = model, store, items, autocast
        self._pages = even_pages(store.lengths[items], page_size)  # positions in items
        self._states: list[dict[str, Tensor]] = []  # of the random generators before each page
        encoded = []
        with torch.no_grad(), autocast():
            for page in self._pages:
                self._states.append(random_tensors())
                encoded.append(self._encode(page))
        self.vectors = torch.cat(encoded)[torch.cat(self._pages).argsort()]
        parameters = model.item_encoder.parameters()
        self.vectors.requires_grad_(any(parameter.requires_grad for parameter in parameters))

    def backward(self) -> None:
        """Add the gradient at the vectors to the encoder's parameters; random numbers go on."""
        gradient, after = self.vectors.grad, random_tensors()
        if gradient is None:
            return
        for page, state in zip(self._pages, self._states, strict=True):
            restore_random_tensors(state)
            with self._autocast():
                vectors = self._encode(page)
            if vectors.requires_grad:  # not where the page has nothing that is trained
                vectors.backward(gradient[page].to(vectors.dtype))
        restore_random_tensors(after)

    def _encode(self, page: Tensor) -> Tensor:
        """Items at ``(M,)`` positions -> ``(M, D)``."""
        return self._model.encode_items(self._store.batch(self._items[page]))


def even_pages(lengths: Tensor, page_size: int) -> list[Tensor]:
    """Positions ``(N,)`` in pages of at most ``page_size``, each with a share of every length."""
    order, count = lengths.argsort(stable=True), -(-lengths.numel() // page_size)
    return [order[first::count] for first in range(count)]
