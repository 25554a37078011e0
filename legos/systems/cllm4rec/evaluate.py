"""Evaluation of CLLM4Rec on a split, and serving of one user at a time.

A prompt has the items of the history that held at the impression: in the validation and test splits
of a random 80-10-10 split a user's train items, in sequential ones all that came before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from legos.data.interactions import Interactions, States
from legos.data.ragged import Ragged, from_lengths
from legos.data.rows import token_batches
from legos.data.sampling import distinct_rows
from legos.errors import DataError
from legos.evaluation.measure import SplitResult, evaluating, measure_scorer
from legos.evaluation.rank import Best, top_items
from legos.systems.cllm4rec.batches import RecommendationPrompts, Templates
from legos.systems.cllm4rec.model import Cllm4Rec
from legos.workplace.workplace import Workplace

_BATCH_TOKENS = 16_384  # read at once; changes memory, not results


def evaluate(
    workplace: Workplace,
    model: Cllm4Rec,
    prompts: RecommendationPrompts,
    interactions: Interactions,
    *,
    thorough: bool,
) -> SplitResult | None:
    """Score and measure a split, see :func:`legos.evaluation.measure.measure_scorer`.

    The model is in evaluation mode for the time of the call.
    """
    with evaluating(model):
        return measure_scorer(
            workplace,
            lambda states: _scorer(workplace, model, prompts, states),
            interactions,
            item_vectors=model.item_head.detach().float(),
            thorough=thorough,
        )


def _scorer(
    workplace: Workplace, model: Cllm4Rec, prompts: RecommendationPrompts, states: States
) -> Callable[[Tensor], Tensor]:
    """Return a scorer of all items for pages of states: ``(s,)`` -> fp32 ``(s, J)``."""
    users = states.users.cpu()
    read = workplace.tables.lists("histories", "items").select(states.histories.cpu())

    def score(page: Tensor) -> Tensor:
        page = page.cpu()
        return score_all(workplace, model, prompts, users[page], read.select(page))

    return score


@torch.no_grad()
def score_all(
    workplace: Workplace,
    model: Cllm4Rec,
    prompts: RecommendationPrompts,
    users: Tensor,
    read: Ragged,
) -> Tensor:
    """Score all items for users ``(s,)`` int64 with s rows of items as histories.

    Returns:
        ``(s, J)`` float32 on the device.
    """
    device, width = workplace.accelerator.device, workplace.tables.num_items
    items = distinct_rows(read.rows, read.values.long(), rows=len(users), width=width)
    orders = model.settings.recommendation.test_orders
    scores = torch.zeros(len(users), len(model.item_head), device=device)
    for draw in range(orders):
        batch = prompts.prompts(users, items=items, draw=draw)
        lengths = batch.tokens.lengths
        budget = max(_BATCH_TOKENS, int(lengths.max()) if len(lengths) else 0)
        for rows in token_batches(lengths, budget):
            with workplace.accelerator.autocast():
                part = model.scores(batch.part(rows, counts=False).to(device))
            if orders > 1:
                part = part.log_softmax(1) / orders  # bare scores of two prompts differ in scale
            scores[rows.to(device)] += part
    return scores


class UserSession:
    """One user, with keys and values of the history cached.

    A new event costs one token, a recommendation the suffix; the history is read once, in the one
    order that it has.

    Args:
        model: in evaluation mode, with a causal backbone.
        items: ``(n,)`` int64 its items so far, in the order of the prompt.
        never: items that are not recommended either, such as those that no list is made of.

    Attributes:
        items: all item numbers read so far; they are never recommended.

    Raises:
        ConfigError: the backbone is an encoder-decoder.
        DataError: no such user or item, or more items than the backbone can read.
    """

    def __init__(
        self,
        model: Cllm4Rec,
        templates: Templates,
        user: int,
        items: Tensor,
        *,
        never: Sequence[int] = (),
    ) -> None:
        self._model, self._templates, self._never = model, templates, never
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

    def best(self, count: int) -> Best:
        """The best ``count`` items that the user does not have: one row."""
        scores = self.scores()[None]
        own = torch.tensor([*self.items, *self._never], dtype=torch.int64, device=scores.device)
        return top_items(scores, _row(own), count)

    def top(self, count: int) -> Tensor:
        """Numbers of the best items: ``(M,)`` int64, best first."""
        return self.best(count).items[0]

    @torch.no_grad()
    def _read(self, tokens: Tensor) -> Tensor:
        """Read ``(T,)`` tokens; returns the state of the last one, ``(D,)``."""
        backbone, tables = self._model.backbone, self._model.collaborative
        vectors = backbone.embed(tokens[None].to(self._model.item_head.device), tables)
        return backbone.extend(vectors, self._cache)[0, -1]


def _row(items: Tensor) -> Ragged:
    return from_lengths(items, torch.tensor([items.numel()], device=items.device))
