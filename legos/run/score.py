"""Scoring a split from caches: every item once, every user state once, then pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from legos.data.interactions import Interactions
from legos.data.items import ItemStore
from legos.recommender import Recommender, take
from legos.run.sharing import ALONE, Sharing

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
def cache_items(
    model: Recommender, store: ItemStore, *, page_size: int, sharing: Sharing = ALONE
) -> Tensor:
    """Encode every item once: ``(items, D)`` float32, row = item id.

    Items are visited by length of their content, so that a page holds little of two sorts.
    """
    device = next(iter(model.parameters())).device
    order = torch.arange(len(store), device=device)
    if store.texts:
        lengths = torch.stack([tokens.lengths for tokens in store.texts.values()]).sum(0)
        order = lengths.argsort(stable=True)

    def encode(ids: Tensor) -> Tensor:
        return model.encode_items(store.batch(ids)).float()

    if len(store) == 0:
        return torch.empty(0, 0, device=device)
    return sharing.fill(order.split(page_size), encode, len(store))


@torch.no_grad()
def cache_users(
    model: Recommender,
    item_vectors: Tensor,
    interactions: Interactions,
    states: Tensor,
    *,
    page_size: int,
    sharing: Sharing = ALONE,
) -> Tensor:
    """Encode the named history states: ``(states,)`` row numbers -> ``(states, D)`` float32."""
    order = interactions.histories.lengths[states].argsort(stable=True)

    def encode(place: Tensor) -> Tensor:
        history, mask = interactions.histories.padded_tail(
            states[place], interactions.history_length
        )
        return model.encode_users(take(item_vectors, history), mask).float()

    if states.numel() == 0:
        return item_vectors.new_empty(0, item_vectors.shape[1])
    return sharing.fill(order.split(page_size), encode, states.numel())


@torch.no_grad()
def score_pairs(
    model: Recommender,
    users: Tensor,
    item_vectors: Tensor,
    owners: Tensor,
    items: Tensor,
    *,
    sharing: Sharing = ALONE,
) -> Tensor:
    """Scores of (user row, item id) pairs: two ``(M,)`` int64 -> ``(M,)`` float32."""

    def score(page: slice) -> Tensor:
        candidates = take(item_vectors, items[page])[:, None]  # (m, 1, D)
        scores: Tensor = model.predictor(take(users, owners[page]), candidates)[:, 0].float()
        return scores

    count = items.numel()
    if count == 0:
        return torch.empty(0, device=items.device)
    return sharing.fill(
        [slice(begin, begin + _PAIR_PAGE) for begin in range(0, count, _PAIR_PAGE)], score, count
    )


@torch.no_grad()
def score_split(
    model: Recommender,
    store: ItemStore,
    interactions: Interactions,
    *,
    page_size: int = 512,
    sharing: Sharing = ALONE,
) -> Scores:
    """Score every candidate of a split.

    Args:
        model: put into evaluation mode for the time of the call.
        store: all items, on the model's device.
        interactions: the split, on the model's device.
        page_size: items and users encoded at once.
        sharing: with which other processes; each gets the whole result.
    """
    training = model.training
    model.eval()
    try:
        item_vectors = cache_items(model, store, page_size=page_size, sharing=sharing)
        states, owner = torch.unique(interactions.history_rows, return_inverse=True)
        users = cache_users(
            model, item_vectors, interactions, states, page_size=page_size, sharing=sharing
        )
        owners = owner[interactions.candidates.rows]
        scores = score_pairs(
            model, users, item_vectors, owners, interactions.candidates.values, sharing=sharing
        )
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
