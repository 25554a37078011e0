"""Ranking of all items by a brick model: cached items and users, then the scores of all pairs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from legos.blocks.embedding import CatalogueScorer, ProductScorer
from legos.blocks.standardised import Standardises
from legos.data.interactions import Interactions, States
from legos.data.items import ItemStore
from legos.evaluation.rank import Ranked, Ranking, rank
from legos.predictor.dot import Dot, DotConfig
from legos.recommender import Recommender, take
from legos.sharing import ALONE, Sharing
from legos.systems.bricks.score import MOST_NUMBERS, Source, cache_items, cache_users


def rank_by_model(
    model: Recommender,
    store: ItemStore,
    interactions: Interactions,
    ranking: Ranking,
    *,
    profiles: ItemStore | None = None,
    page_size: int = 512,
    k: int | None = None,
    sharing: Sharing = ALONE,
) -> Ranked:
    """Rank all items for every state of a split.

    Items are encoded once. So are users where they do not depend on the candidates; else once for
    every page of items.

    Args:
        model: put into evaluation mode for the time of the call.
        store: all items, on the model's device.
        interactions: the split, on the model's device.
        ranking: what of it to rank.
        profiles: the users' fields, on the model's device.
        page_size: items and users encoded at once.
        k: how many of the best items to list.
        sharing: with which other processes; each gets the whole result.

    Raises:
        Diverged: a score is not finite.
    """
    begin, training = time.perf_counter(), model.training
    model.eval()
    try:
        items = cache_items(model, store, page_size=page_size, sharing=sharing)
        source = Source(interactions.histories, store.whole(), profiles)
        if model.factors:
            users = cache_users(
                model, items, source, ranking.states, page_size=page_size, sharing=sharing
            )
            product, prepared = as_products(model, items, ranking.offered)
            score = FactoredScores(product, items, prepared(users))
            ranked = rank(ranking, score, page_size=page_size, k=k, sharing=sharing)
        else:
            pairs = PairScores(model, items, source, ranking.states)
            ranked = rank(ranking, pairs, page_size=page_size, k=k, sharing=sharing)
    finally:
        model.train(training)
    return replace(ranked, item_vectors=items, seconds=time.perf_counter() - begin)


def as_products(
    model: Recommender, items: Tensor, offered: Tensor
) -> tuple[Recommender, Callable[[Tensor], Tensor]]:
    """Return a model that scores by inner products, and a function that prepares users for it.

    If scores depend on all recommendable items (``offered``, ``(items,)`` bool of ``(items, D)``),
    users ``(S, D)`` are transformed once, and an inner product remains.
    """
    predictor = model.predictor
    if not isinstance(predictor, Standardises):
        return model, lambda users: users
    product = Recommender(
        item_encoder=model.item_encoder,
        user_encoder=model.user_encoder,
        predictor=Dot(DotConfig()),
    )
    spread = predictor.spread(items[offered.to(items.device)])
    return product.eval(), lambda users: predictor.over_catalogue(users, spread)


class FactoredScores:
    """Scores of encoded users.

    Args:
        model: in evaluation mode.
        items: ``(items, D)``.
        users: ``(S, ...)``.
    """

    def __init__(self, model: Recommender, items: Tensor, users: Tensor) -> None:
        self.model, self.items, self.users = model, items, users
        interests = max(1, users[:1].numel() // max(1, items.shape[1]))
        at_once = isinstance(model.predictor, CatalogueScorer)
        # a pair holds a score an interest, or all that a network over both vectors has in it
        self.pair = interests if at_once else 4 * users[:1].numel() + items.shape[1]
        self._page = torch.empty(0, 0)

    def __call__(self, states: Tensor) -> Tensor:
        """``(s,)`` -> ``(s, items)`` float32, which the next call may overwrite.

        Memory that was used before takes half the time of new memory. So the page is kept, and its
        parts are below 32 MB, the most that the C library keeps when it is freed.
        """
        users, count = self.users.index_select(0, states), len(self.items)
        block = max(1, MOST_NUMBERS // (max(2, self.pair) * max(1, len(states))))
        if block >= count:
            return self.model.score_catalogue(users, self.items).float()
        if len(self._page) < len(states):
            self._page = torch.empty(len(states), count, device=users.device)
        scores = self._page[: len(states)]
        predictor, kinds = self.model.predictor, {users.dtype, self.items.dtype}
        for begin in range(0, count, block):
            part = slice(begin, begin + block)
            if isinstance(predictor, ProductScorer) and kinds == {scores.dtype}:
                user, items = predictor.factors(users, self.items[part])
                torch.mm(user, items.mT, out=scores[:, part])
            else:
                scores[:, part] = self.model.score_catalogue(users, self.items[part])
        return scores


class PairScores:
    """Scores of users that are encoded anew for each candidate.

    Args:
        model: in evaluation mode.
        items: ``(items, D)``.
        source: what users are encoded from.
        states: of those users.
        asked: ``(C,)`` item ids; None: all.
    """

    def __init__(
        self,
        model: Recommender,
        items: Tensor,
        source: Source,
        states: States,
        asked: Tensor | None = None,
    ) -> None:
        self.model, self.items, self.source, self.states = model, items, source, states
        self.asked = torch.arange(len(items), device=items.device) if asked is None else asked

    def __call__(self, states: Tensor) -> Tensor:
        """``(s,)`` -> ``(s, C)``."""
        history, mask = self.source.padded(self.states.histories[states])
        pairs = max(1, MOST_NUMBERS // (history.shape[1] * self.items.shape[1]))
        block = max(1, min(len(self.asked), pairs))
        rows = torch.arange(len(states), device=states.device).split(max(1, pairs // block))
        users = self.states.users[states]
        return torch.cat(
            [
                torch.cat([self._score(users[r], history[r], mask[r], c) for c in columns], 1)
                for columns in [self.asked.split(block)]
                for r in rows
            ]
        )

    def _score(self, ids: Tensor, history: Tensor, mask: Tensor, columns: Tensor) -> Tensor:
        """``(B,)`` users and ``(C,)`` items -> ``(B, C)``."""
        shown = columns.expand(len(ids), -1)
        vectors = self.items.index_select(0, columns).expand(len(ids), -1, -1)  # (B, C, D)
        users = self.source.users(ids, history)
        users = replace(users, candidates=vectors, candidate_items=shown)
        user = self.model.encode_users(take(self.items, history), mask, users)
        return self.model.score(user, vectors, mask).float()
