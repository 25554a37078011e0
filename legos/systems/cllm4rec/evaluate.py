"""Measuring CLLM4Rec on a split: prompts of its histories in, places of its clicks out."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from legos.data.items import Interactions, States, distinct_states
from legos.data.ragged import Ragged, from_lengths, join_rows
from legos.data.rows import token_batches
from legos.errors import DataError
from legos.evaluation.measure import Scored, SplitResult, measure, measure_ranked
from legos.evaluation.rank import rank, ranking_of
from legos.systems.cllm4rec.batches import PromptBatch, RecommendationPrompts, Templates
from legos.systems.cllm4rec.corpus import distinct_rows
from legos.systems.cllm4rec.model import Cllm4Rec
from legos.systems.cllm4rec.settings import RecommendationSettings
from legos.workplace.device import Sharing
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


NO_ITEM = -1  # where fewer items are left than asked for


def top_items(scores: Tensor, excluded: Ragged, count: int) -> Tensor:
    """The best items of every row.

    Args:
        scores: ``(B, J)``, left as they are.
        excluded: B rows of item numbers that are never given.
        count: M, cut to J.

    Returns:
        ``(B, M)`` int64 item numbers, best first, of equal ones the lower number first;
        ``NO_ITEM`` where nothing is left.

    Raises:
        DataError: a score is NaN.
    """
    if bool(scores.isnan().any()):
        row = int(scores.isnan().any(1).nonzero()[0])
        raise DataError(f"scores of row {row} are not numbers; the model has diverged")
    count = min(count, scores.shape[1])
    lowest = -torch.inf
    scores = scores.index_put(
        (excluded.rows, excluded.values.long()), scores.new_tensor(lowest)
    )  # (B, J)
    threshold = scores.topk(count, sorted=False).values.amin(1, keepdim=True)
    above, level = scores > threshold, scores == threshold
    wanted = count - above.sum(1, keepdim=True)  # of those level with the threshold
    chosen = above | (level & (level.cumsum(1) <= wanted))
    items = chosen.nonzero()[:, 1].view(len(scores), count)  # ascending in a row
    values, order = scores.gather(1, items).sort(dim=1, descending=True, stable=True)
    return items.gather(1, order).masked_fill(values == lowest, NO_ITEM)


def excluded_items(
    train: Ragged, valid: Ragged | None, users: Tensor, settings: RecommendationSettings
) -> Ragged:
    """Items that are not recommended to ``(B,)`` users: B rows.

    Raises:
        DataError: validation items are to be excluded, but there are none.
    """
    if settings.exclude == "train":
        return train.select(users)
    if valid is None:
        raise DataError("recommendation.exclude is train+valid, but no validation items are given")
    return join_rows([train.select(users), valid.select(users)])


@torch.no_grad()
def recommend(
    model: Cllm4Rec,
    prompts: RecommendationPrompts,
    users: Tensor,
    excluded: Ragged,
    *,
    count: int,
) -> Tensor:
    """The best items of users in one forward pass.

    Args:
        model: in evaluation mode.
        prompts: of the train items.
        users: ``(B,)`` int64.
        excluded: B rows, see :func:`excluded_items`.
        count: M.

    Returns:
        ``(B, M)`` int64, see :func:`top_items`.
    """
    batch = prediction_batch(model, prompts, users)
    device = model.item_head.device
    return top_items(model.scores(batch.to(device)), excluded.to(device), count)


def prediction_batch(
    model: Cllm4Rec, prompts: RecommendationPrompts, users: Tensor, items: Ragged | None = None
) -> PromptBatch:
    """What a model is to read of ``(B,)`` users to score all items.

    Args:
        model: whose settings say how.
        prompts: of the train items.
        users: ``(B,)`` int64.
        items: B rows of distinct ascending items that they have; None: the train items.
    """
    if model.settings.recommendation.scoring == "next_item":
        return prompts.histories(users, items=items)
    return prompts.prompts(users, items=items)


class UserSession:
    """What has been read of one user.

    Args:
        model: in evaluation mode, with a causal backbone.
        templates: prompts.
        user: its number.
        items: ``(n,)`` int64 its items so far, in the order of the prompt.

    Attributes:
        items: all item numbers read so far; they are never recommended.

    Raises:
        ConfigError: the backbone is an encoder-decoder.
        DataError: no such user or item, or more items than the backbone can read.
    """

    def __init__(self, model: Cllm4Rec, templates: Templates, user: int, items: Tensor) -> None:
        self._model, self._templates = model, templates
        self._user = torch.tensor([user])
        self._cache: Any = model.backbone.new_cache()
        self._suffix = templates.recommendation(self._user, _row(items[:0])).values
        self._suffix = self._suffix[templates.history_length :]
        self.items: list[int] = []
        self._last = self._read(templates.history(self._user).values)
        self.append(items)

    def append(self, items: Tensor) -> None:
        """Read ``(n,)`` further items.

        Raises:
            DataError: no such item, or the prompt with its suffix has become too long.
        """
        if not items.numel():
            return
        tokens = self._templates.items(_row(items)).values
        longest = self._model.backbone.longest
        length = self._cache.get_seq_length() + len(tokens) + len(self._suffix)
        if longest is not None and length > longest:
            raise DataError(
                f"user {int(self._user)}: {length} tokens with the suffix, the backbone reads at "
                f"most {longest}; begin a new session with fewer items"
            )
        self._last = self._read(tokens)
        self.items += items.tolist()

    @torch.no_grad()
    def scores(self) -> Tensor:
        """Scores of all items, fp32 ``(J,)``; the history stays as it is."""
        state = self._last
        if self._model.settings.recommendation.scoring == "recommendation":
            state = self._read(self._suffix)
            self._cache.crop(-len(self._suffix))
        return self._model.item_scores(state)

    def top(self, count: int) -> Tensor:
        """The best ``count`` items that the user does not have: ``(M,)`` int64, best first."""
        scores = self.scores()[None]
        own = torch.tensor(self.items, dtype=torch.int64, device=scores.device)
        return top_items(scores, _row(own), count)[0]

    @torch.no_grad()
    def _read(self, tokens: Tensor) -> Tensor:
        """Read ``(T,)`` tokens; the last one's state ``(D,)``."""
        backbone, tables = self._model.backbone, self._model.collaborative
        vectors = backbone.embed(tokens[None].to(self._model.item_head.device), tables)
        return backbone.extend(vectors, self._cache)[0, -1]


def _row(items: Tensor) -> Ragged:
    return from_lengths(items, torch.tensor([items.numel()], device=items.device))
