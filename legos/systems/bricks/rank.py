"""Scores of all items for a page of users, by a model."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

from legos.blocks.embedding import CatalogueScorer
from legos.data.interactions import Interactions
from legos.data.items import ItemStore
from legos.evaluation.rank import ALONE, Ranked, Ranking, Sharing, rank
from legos.recommender import Recommender, take
from legos.systems.bricks.score import Source, cache_items, cache_users

_NUMBERS = 2**23  # held at once by the pairs that a model scores


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
        DataError: a score is not finite.
    """
    begin, training = time.perf_counter(), model.training
    model.eval()
    try:
        items = cache_items(model, store, page_size=page_size, sharing=sharing)
        source = Source(interactions, store.whole(), profiles)
        if model.factors:
            users = cache_users(
                model, items, source, ranking.states, page_size=page_size, sharing=sharing
            )
            score = FactoredScores(model, items, users)
            ranked = rank(ranking, score, page_size=page_size, k=k, sharing=sharing)
        else:
            pairs = PairScores(model, items, source, ranking)
            ranked = rank(ranking, pairs, page_size=page_size, k=k, sharing=sharing)
    finally:
        model.train(training)
    return replace(ranked, item_vectors=items, seconds=time.perf_counter() - begin)


class FactoredScores:
    """Scores of users that are encoded already.

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

    def __call__(self, states: Tensor) -> Tensor:
        """``(s,)`` -> ``(s, items)``."""
        users = self.users.index_select(0, states)
        block = max(1, _NUMBERS // (self.pair * max(1, len(states))))
        parts = [self.model.score_catalogue(users, part) for part in self.items.split(block)]
        return (parts[0] if len(parts) == 1 else torch.cat(parts, 1)).float()


class PairScores:
    """Scores of users who are encoded for each candidate.

    Args:
        model: in evaluation mode.
        items: ``(items, D)``.
        source: what users are encoded from.
        ranking: whose states they are.
    """

    def __init__(self, model: Recommender, items: Tensor, source: Source, ranking: Ranking) -> None:
        self.model, self.items, self.source, self.states = model, items, source, ranking.states

    def __call__(self, states: Tensor) -> Tensor:
        """``(s,)`` -> ``(s, items)``."""
        data = self.source.interactions
        history, mask = data.histories.padded_tail(
            self.states.histories[states], data.history_length
        )
        pairs = max(1, _NUMBERS // (history.shape[1] * self.items.shape[1]))
        block = min(len(self.items), pairs)
        rows = torch.arange(len(states), device=states.device).split(max(1, pairs // block))
        users = self.states.users[states]
        return torch.cat(
            [
                torch.cat([self._score(users[r], history[r], mask[r], c) for c in columns], 1)
                for columns in [torch.arange(len(self.items), device=states.device).split(block)]
                for r in rows
            ]
        )

    def _score(self, users: Tensor, history: Tensor, mask: Tensor, columns: Tensor) -> Tensor:
        """``(B,)`` users and ``(C,)`` items -> ``(B, C)``."""
        shown = columns.expand(len(users), -1)
        vectors = self.items.index_select(0, columns).expand(len(users), -1, -1)  # (B, C, D)
        readers = self.source.readers(users, history)
        readers = replace(readers, candidates=vectors, candidate_items=shown)
        user = self.model.encode_users(take(self.items, history), mask, readers)
        return self.model.score(user, vectors, mask).float()
