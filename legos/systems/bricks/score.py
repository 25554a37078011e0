"""Scoring a split from caches: every item once, every history state once, then pairs.

Where the user vector depends on the candidate there is no cache of users, only that of items.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from legos.blocks.packed import ReadsNeighbours
from legos.data.batch import Batch, BatchUsers, distinct_items
from legos.data.interactions import Interactions, States, distinct_states
from legos.data.items import ItemBatch, ItemStore
from legos.data.ragged import Ragged
from legos.evaluation.measure import evaluating
from legos.recommender import Recommender, take
from legos.sharing import ALONE, Sharing

MOST_NUMBERS = 2**23  # held at once by the pairs of a page whose users depend on the candidate
_PAIR_PAGE = 8_192  # pairs scored at once: the gathered vectors stay in the cache of a core


class Scores(NamedTuple):
    """Scores of a split.

    Attributes:
        scores: ``(M,)`` float32 on the CPU, aligned with ``candidates.values``.
        item_vectors: ``(items, D)`` float32 on the device.
    """

    scores: Tensor
    item_vectors: Tensor


@dataclass(frozen=True)
class Source:
    """The input of the user encoder.

    Attributes:
        histories: cut to what is read of them, as item ids.
        items: content of all items, row = item id.
        profiles: the users' fields.
    """

    histories: Ragged
    items: ItemBatch
    profiles: ItemStore | None

    def padded(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Histories ``(B,)`` -> item ids ``(B, H)`` and mask, H the longest of them."""
        return self.histories.padded_tail(rows, self.histories.values.numel())

    def users(self, ids: Tensor, history: Tensor) -> BatchUsers:
        """Users with their histories as item ids ``(B, H)``."""
        return BatchUsers(ids=ids, items=self.items, history=history, profiles=self.profiles)


@torch.no_grad()
def cache_items(
    model: Recommender, store: ItemStore, *, page_size: int, sharing: Sharing = ALONE
) -> Tensor:
    """Encode every item once: ``(items, D)`` float32, row = item id.

    Items are visited by length of their content, so that a page holds little of two sorts.
    """
    order = store.lengths.argsort(stable=True)

    encoder = model.item_encoder
    by_itself = encoder.alone if isinstance(encoder, ReadsNeighbours) else model.encode_items

    def encode(ids: Tensor) -> Tensor:
        return by_itself(store.batch(ids)).float()

    if len(store) == 0:
        return torch.empty(0, 0, device=order.device)
    vectors = sharing.fill(order.split(page_size), encode, len(store))
    return encoder.joined(vectors).float() if isinstance(encoder, ReadsNeighbours) else vectors


@torch.no_grad()
def cache_users(
    model: Recommender,
    item_vectors: Tensor,
    source: Source,
    states: States,
    *,
    page_size: int,
    sharing: Sharing = ALONE,
) -> Tensor:
    """Encode every history state once: ``(S, ...)`` float32, row = state."""
    order = source.histories.lengths[states.histories].argsort(stable=True)

    def encode(page: Tensor) -> Tensor:
        history, mask = source.padded(states.histories[page])
        users = source.users(states.users[page], history)
        return model.encode_users(take(item_vectors, history), mask, users).float()

    if order.numel() == 0:
        return item_vectors.new_empty(0, item_vectors.shape[1])
    return sharing.fill(order.split(page_size), encode, order.numel())


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
    widening = max(1, users[:1].numel() // max(1, item_vectors.shape[1]))  # interests a user
    page_size = max(1, _PAIR_PAGE // widening)

    def score(page: slice) -> Tensor:
        candidates = take(item_vectors, items[page])[:, None]  # (m, 1, D)
        user = users.index_select(0, owners[page])
        return model.score(user, candidates)[:, 0].float()

    count = items.numel()
    if count == 0:
        return torch.empty(0, device=items.device)
    return sharing.fill(
        [slice(begin, begin + page_size) for begin in range(0, count, page_size)], score, count
    )


@torch.no_grad()
def score_impressions(
    model: Recommender,
    item_vectors: Tensor,
    source: Source,
    data: Interactions,
    *,
    sharing: Sharing = ALONE,
) -> Tensor:
    """Score candidates if scores depend on the candidate or on others beside it: ``(M,)`` float32.

    The items come from their cache; impressions with as many candidates go together.
    """
    candidates = data.candidates
    positions = Ragged(torch.arange(candidates.values.numel()), candidates.offsets.cpu())
    positions = positions.to(candidates.values.device)
    width = (
        max(1, data.history_length) * item_vectors.shape[1]
    )  # numbers that a pair may hold at once
    owners, longest = candidates.rows, int(candidates.lengths.max()) if len(candidates) else 0

    def score(page: Tensor) -> Tensor:
        impressions = torch.unique_consecutive(owners[page])
        shown, real = candidates.padded_tail(impressions, longest)
        history, mask = source.padded(data.history_rows[impressions])
        users = source.users(data.users[impressions], history)
        vectors = take(item_vectors, shown)
        users = replace(users, candidates=vectors, candidate_items=shown)
        user = model.encode_users(take(item_vectors, history), mask, users)
        return model.score(user, vectors, mask, real)[real].float()

    if candidates.values.numel() == 0:
        return torch.empty(0, device=candidates.values.device)
    order = candidates.lengths.argsort(stable=True)
    order = order[candidates.lengths[order] > 0]
    pages = order.split(max(1, MOST_NUMBERS // (width * longest)))
    return sharing.fill(
        [positions.select(page).values for page in pages], score, candidates.values.numel()
    )


@torch.no_grad()
def score_split(
    model: Recommender,
    store: ItemStore,
    interactions: Interactions,
    *,
    profiles: ItemStore | None = None,
    page_size: int = 512,
    sharing: Sharing = ALONE,
) -> Scores:
    """Score every candidate of a split.

    Args:
        model: put into evaluation mode for the time of the call.
        store: all items, on the model's device.
        interactions: the split, on the model's device.
        profiles: the users' fields, on the model's device.
        page_size: items and users encoded at once.
        sharing: with which other processes; each gets the whole result.
    """
    source = Source(interactions.histories, store.whole(), profiles)
    with evaluating(model):
        item_vectors = cache_items(model, store, page_size=page_size, sharing=sharing)
        if model.factors and not model.standardises:
            states, owner = distinct_states(interactions)
            users = cache_users(
                model, item_vectors, source, states, page_size=page_size, sharing=sharing
            )
            owners = owner[interactions.candidates.rows]
            scores = score_pairs(
                model, users, item_vectors, owners, interactions.candidates.values, sharing=sharing
            )
        else:
            scores = score_impressions(model, item_vectors, source, interactions, sharing=sharing)
    return Scores(scores.cpu(), item_vectors)


@torch.no_grad()
def score_split_directly(
    model: Recommender,
    store: ItemStore,
    interactions: Interactions,
    *,
    profiles: ItemStore | None = None,
    page_size: int = 64,
) -> Tensor:
    """Score by the forward pass of training, without caches (``fast_eval: false``)."""
    training = model.training
    model.eval()
    longest = int(interactions.candidates.lengths.max()) if len(interactions) else 0
    scores = []
    try:
        for impressions in torch.arange(len(interactions), device=interactions.users.device).split(
            page_size
        ):
            rows = interactions.history_rows[impressions]
            history, mask = interactions.histories.padded_tail(rows, interactions.history_length)
            shown, real = interactions.candidates.padded_tail(impressions, longest)
            items, history, candidates = distinct_items(history, mask, shown)
            batch = Batch(
                items=items,
                history=history,
                history_mask=mask,
                candidates=candidates,
                candidate_mask=real,
                labels=real.float(),
                users=interactions.users[impressions],
                rows=impressions,
            )
            scores.append(model(batch, store.batch(items), profiles).scores[real].float())
    finally:
        model.train(training)
    return torch.cat(scores).cpu() if scores else torch.empty(0)
