"""Scoring a split from caches: every item once, every user state once, then pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from legos.data.interactions import Interactions
from legos.data.items import ItemStore
from legos.recommender import Recommender, take

_PAIR_PAGE = 8_192  # pairs scored at once: the gathered vectors stay in the cache of a core


@dataclass(frozen=True)
class Scores:
    """Scores of a split.

    Attributes:
        scores: ``(M,)`` float32 on the CPU, aligned with ``candidates.values``.
        item_vectors: ``(items, D)`` float32 on the device.
    """

    scores: Tensor
    item_vectors: Tensor


@torch.no_grad()
def cache_items(model: Recommender, store: ItemStore, *, page_size: int) -> Tensor:
    """Encode every item once: ``(items, D)`` float32, row = item id.

    Items are visited by length of their content, so that a page holds little of two sorts.
    """
    device = next(iter(model.parameters())).device
    order = torch.arange(len(store), device=device)
    if store.texts:
        lengths = torch.stack([tokens.lengths for tokens in store.texts.values()]).sum(0)
        order = lengths.argsort(stable=True)
    vectors: Tensor | None = None
    for ids in order.split(page_size):
        page = model.encode_items(store.batch(ids)).float()
        if vectors is None:
            vectors = page.new_empty(len(store), page.shape[1])
        vectors[ids] = page
    return torch.empty(0, 0, device=device) if vectors is None else vectors


@torch.no_grad()
def cache_users(
    model: Recommender,
    item_vectors: Tensor,
    interactions: Interactions,
    states: Tensor,
    *,
    page_size: int,
) -> Tensor:
    """Encode the named history states: ``(states,)`` row numbers -> ``(states, D)`` float32."""
    order = interactions.histories.lengths[states].argsort(stable=True)
    users: Tensor | None = None
    for place in order.split(page_size):
        history, mask = interactions.histories.padded_tail(
            states[place], interactions.history_length
        )
        page = model.encode_users(take(item_vectors, history), mask).float()
        if users is None:
            users = page.new_empty(states.numel(), *page.shape[1:])
        users[place] = page
    return item_vectors.new_empty(0, item_vectors.shape[1]) if users is None else users


@torch.no_grad()
def score_pairs(
    model: Recommender, users: Tensor, item_vectors: Tensor, owners: Tensor, items: Tensor
) -> Tensor:
    """Scores of (user row, item id) pairs: two ``(M,)`` int64 -> ``(M,)`` float32."""
    scores = torch.empty(items.numel(), device=items.device)
    for begin in range(0, items.numel(), _PAIR_PAGE):
        page = slice(begin, begin + _PAIR_PAGE)
        candidates = take(item_vectors, items[page])[:, None]  # (m, 1, D)
        scores[page] = model.predictor(take(users, owners[page]), candidates)[:, 0].float()
    return scores


@torch.no_grad()
def score_split(
    model: Recommender, store: ItemStore, interactions: Interactions, *, page_size: int = 512
) -> Scores:
    """Score every candidate of a split.

    Args:
        model: put into evaluation mode for the time of the call.
        store: all items, on the model's device.
        interactions: the split, on the model's device.
        page_size: items and users encoded at once.
    """
    training = model.training
    model.eval()
    try:
        item_vectors = cache_items(model, store, page_size=page_size)
        states, owner = torch.unique(interactions.history_rows, return_inverse=True)
        users = cache_users(model, item_vectors, interactions, states, page_size=page_size)
        owners = owner[interactions.candidates.rows]
        scores = score_pairs(model, users, item_vectors, owners, interactions.candidates.values)
    finally:
        model.train(training)
    return Scores(scores.cpu(), item_vectors)


@torch.no_grad()
def score_split_directly(
    model: Recommender, store: ItemStore, interactions: Interactions, *, page_size: int = 64
) -> Tensor:
    """The same scores without caches: every impression on its own (``fast_eval: false``).

    For checking the caches and for encoders that must see the history with the candidate.
    """
    training = model.training
    model.eval()
    scores = []
    try:
        for impressions in torch.arange(len(interactions), device=interactions.users.device).split(
            page_size
        ):
            rows = interactions.history_rows[impressions]
            history, mask = interactions.histories.padded_tail(rows, interactions.history_length)
            shown = interactions.candidates.select(impressions)
            vectors = model.encode_items(store.batch(torch.cat([history[mask], shown.values])))
            read = vectors.new_zeros(*history.shape, vectors.shape[1])
            count = int(mask.sum())
            read[mask] = vectors[:count]
            users = model.encode_users(read, mask)
            pairs = model.predictor(take(users, shown.rows), vectors[count:, None])
            scores.append(pairs[:, 0].float())
    finally:
        model.train(training)
    return torch.cat(scores).cpu()
