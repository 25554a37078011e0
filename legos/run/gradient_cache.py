"""Exact gradient caching: items are encoded page by page, so that memory does not grow with them.

Gao, Zhang, Han and Callan, "Scaling Deep Contrastive Learning Batch Size under Memory Limited
Setup", RepL4NLP 2021 (arXiv:2101.06983). Every page is encoded twice: without a graph for its
vectors, then with one, into which the gradient at the vectors goes. Between the two the random
state is put back, so that dropout is the same. What the paper does to a loss over representations
is done here to user encoder, predictor and loss together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from legos.data.items import ItemStore
from legos.recommender import Recommender
from legos.run.random_state import random_tensors, restore_random_tensors

_BUCKET = 2**24  # gradients averaged at once: few messages, and a copy of no more than these


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


@torch.no_grad()
def average_gradients(model: nn.Module, accelerator: Accelerator) -> None:
    """Average gradients over processes as a wrapped model does, whose hooks were not called.

    A missing gradient counts as zero, but stays missing where no process has one. Buffers of
    numbers (running statistics) become those of the first process.

    Args:
        model: the same in every process, not wrapped.
        accelerator: of the processes.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    present = torch.tensor([parameter.grad is not None for parameter in trained]).float()
    anywhere = accelerator.reduce(present.to(accelerator.device)).tolist()
    shared = [parameter for parameter, count in zip(trained, anywhere, strict=True) if count]
    for bucket in _buckets(shared):
        for parameter in bucket:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in bucket if parameter.grad is not None]
        flat = accelerator.reduce(torch.cat([part.flatten() for part in gradients]), "mean")
        parts = flat.split([part.numel() for part in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
    for buffer in model.buffers():
        if buffer.is_floating_point():
            broadcast(buffer)


def _buckets(parameters: list[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Parameters of one dtype each, in order, of at most ``_BUCKET`` numbers or alone."""
    bucket: list[nn.Parameter] = []
    for parameter in sorted(parameters, key=lambda each: str(each.dtype)):
        size = sum(each.numel() for each in bucket) + parameter.numel()
        if bucket and (size > _BUCKET or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket
