"""Measuring CLLM4Rec on a split: prompts of its histories in, places of its clicks out."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

from legos.data.interactions import Interactions
from legos.data.ragged import Ragged
from legos.data.rows import token_batches
from legos.evaluation.measure import Scored, SplitResult, measure, measure_ranked
from legos.evaluation.rank import Sharing, States, distinct_states, rank, ranking_of
from legos.systems.cllm4rec.batches import PromptBatch, RecommendationPrompts
from legos.systems.cllm4rec.data import distinct_rows
from legos.systems.cllm4rec.model import Cllm4Rec
from legos.systems.cllm4rec.predict import prediction_batch
from legos.workplace.workplace import Workplace

BATCH_TOKENS = 16_384  # read at once; changes memory, not results


class StateScores:
    """Scores of all items for pages of states, each a history and its reader.

    The items of a prompt are those of the history that held at the impression: in the validation
    and test splits of a random 80-10-10 split a user's train items, in sequential ones all that
    came before.

    Args:
        model: in evaluation mode.
        prompts: how items become a prompt.
        place: precision and tables.
        states: whose scores.
    """

    def __init__(
        self, model: Cllm4Rec, prompts: RecommendationPrompts, place: Workplace, states: States
    ) -> None:
        self._model, self._prompts, self._place = model, prompts, place
        tables = place.tables
        self._users = states.users.cpu()
        read = tables.lists("histories", "items")
        read = Ragged(read.values.long(), read.offsets).select(states.histories.cpu())
        self._items = distinct_rows(
            read.rows, read.values, rows=len(self._users), width=tables.num_items
        )

    @torch.no_grad()
    def __call__(self, states: Tensor) -> Tensor:
        """``(s,)`` int64 -> fp32 ``(s, J)`` on the device."""
        states = states.cpu()
        batch = prediction_batch(
            self._model, self._prompts, self._users[states], self._items.select(states)
        )
        lengths = batch.tokens.lengths
        budget = max(BATCH_TOKENS, int(lengths.max()) if len(lengths) else 0)
        device = self._place.accelerator.device
        scores = torch.empty(len(states), len(self._model.item_head), device=device)
        for rows in token_batches(lengths, budget):
            with self._place.accelerator.autocast():
                found = self._model.scores(_some(batch, rows).to(device))
            scores[rows.to(device)] = found
        return scores


def evaluate(
    place: Workplace,
    model: Cllm4Rec,
    prompts: RecommendationPrompts,
    interactions: Interactions,
    *,
    thorough: bool,
) -> SplitResult | None:
    """Score and measure a split, as ``exp.evaluate`` says; the result in the main process.

    Args:
        place: configuration and tables.
        model: put into evaluation mode for the time of the call.
        prompts: how items become a prompt.
        interactions: the split, on the device.
        thorough: rows of kinds of items and users and the metrics beyond accuracy, too.

    Raises:
        DataError: a score is not finite.
    """
    config, training = place.config.exp.evaluate, model.training
    model.eval()
    begin = time.perf_counter()
    vectors = model.item_head.detach().float()
    is_main, sharing = place.accelerator.is_main_process, Sharing.between(place.accelerator)
    try:
        if config.ranking == "all":
            ranking = ranking_of(place, interactions)
            ranked = rank(
                ranking,
                StateScores(model, prompts, place, ranking.states),
                page_size=config.page_size,
                k=config.beyond_accuracy_k if thorough else None,
                sharing=sharing,
            )
            ranked = replace(ranked, item_vectors=vectors, seconds=time.perf_counter() - begin)
            if not is_main:
                return None
            return measure_ranked(place, ranked, interactions, thorough=thorough)
        scores = _candidate_scores(place, model, prompts, interactions, sharing)
        if not is_main:
            return None
        scored = Scored(scores.cpu().numpy(), vectors, time.perf_counter() - begin)
        return measure(place, scored, interactions, thorough=thorough)
    finally:
        model.train(training)


def some_impressions(interactions: Interactions, count: int, *, seed: int) -> Interactions:
    """At most ``count`` impressions of a split, drawn by the seed, in their order."""
    if count >= len(interactions):
        return interactions
    generator = torch.Generator().manual_seed(seed)
    kept = torch.randperm(len(interactions), generator=generator)[:count].sort().values
    kept = kept.to(interactions.users.device)
    offsets = interactions.candidates.offsets
    return replace(
        interactions,
        users=interactions.users[kept],
        history_rows=interactions.history_rows[kept],
        candidates=interactions.candidates.select(kept),
        labels=Ragged(interactions.labels, offsets).select(kept).values,
        impression_ids=interactions.impression_ids[kept],
    )


def _candidate_scores(
    place: Workplace,
    model: Cllm4Rec,
    prompts: RecommendationPrompts,
    interactions: Interactions,
    sharing: Sharing,
) -> Tensor:
    """Scores of the candidates shown: ``(M,)`` fp32, aligned with ``candidates.values``."""
    states, owner = distinct_states(interactions)
    score = StateScores(model, prompts, place, states)
    of_state = owner[interactions.candidates.rows]  # (M,)
    order = of_state.argsort(stable=True)
    of_state, items = of_state[order], interactions.candidates.values[order]
    found = torch.zeros(len(order), device=items.device)
    count, page = len(states.users), place.config.exp.evaluate.page_size
    for begin in sharing.own(range(0, count, page)):
        end = min(begin + page, count)
        here = (of_state >= begin) & (of_state < end)
        scores = score(torch.arange(begin, end))
        found[here] = scores[of_state[here] - begin, items[here]]
    found = sharing.added(found)
    return torch.empty_like(found).index_copy(0, order, found)


def _some(batch: PromptBatch, rows: Tensor) -> PromptBatch:
    """The prompts ``(n,)`` of a batch for prediction."""
    return replace(
        batch,
        tokens=batch.tokens.select(rows),
        prompt_lengths=batch.prompt_lengths[rows],
        users=batch.users[rows],
    )
