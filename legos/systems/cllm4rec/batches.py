"""Batches of the three tasks from columnar arrays: interactions, texts, recommendation prompts.

The sentences of prompts (CLLM4Rec, sections 3.3 to 3.5; those of ``public_code`` are of its data
files) are tokenized once and filled in as id arrays. Whatever is random is a function of (seed,
epoch, user), so that any number of processes and any resume see the same batches. Too long prompts
lose items, never their suffix; the public code cuts the suffix off.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from legos.data.ragged import Ragged, from_lengths, join_rows, padded_aranges
from legos.data.sampling import keyed_bits
from legos.errors import ConfigError, DataError, nearest
from legos.systems.cllm4rec.settings import Cllm4RecConfig, Preset
from legos.systems.cllm4rec.tokenizer import SoftTokenizer

_PRETRAINING, _FINETUNING, _TEST = 1, 2, 3  # so that tasks of one seed draw differently
_LAST = torch.iinfo(torch.int64).max
_USER, _ITEM = -1, -2  # stand for them in a tokenized sentence
_HISTORY = "{user} has interacted with"
_SUFFIXES: dict[Preset, str] = {
    "public_code": ", {user} will interact with",
    "paper": " the user will interact with:",
}
_REVIEWS: dict[Preset, str] = {
    "public_code": "{user} wrote the following review for {item}:",
    "paper": "{user} writes the review for {item}:",
}
_CONTENT = {
    "title": "The title of {item} is:",
    "brand": "The brand of {item} is:",
    "description": "The description of {item} is:",
    "categories": "The categories of {item} are:",
    "content": "The content of {item} is:",
    "explanation": "{user} explains the reason for purchasing {item}:",
    "biography": "The biography of {user} is:",
}
CONTENT_KINDS = ("review", *_CONTENT)


class Templates:
    """All prompts of one tokenizer, with users and items, and one wording.

    Attributes:
        suffix_length: tokens after the items of a recommendation prompt.
        history_length: tokens before the items.
        names: ``(kinds, 2)`` bool: whether a prompt of a kind of text names a user, and an item.
    """

    def __init__(self, tokenizer: SoftTokenizer, *, wording: Preset) -> None:
        self.vocabulary = tokenizer.vocabulary
        self._history = _compiled(tokenizer, _HISTORY)
        # as it is tokenized behind an item
        self._suffix = _compiled(tokenizer, "{item}" + _SUFFIXES[wording])[1:]
        sentences = [_REVIEWS[wording], *_CONTENT.values()]
        compiled = [_compiled(tokenizer, sentence) for sentence in sentences]
        lengths = torch.tensor([len(ids) for ids in compiled])
        self._content = from_lengths(torch.cat(compiled), lengths)
        self.names = torch.tensor([["{user}" in each, "{item}" in each] for each in sentences])
        self.history_length, self.suffix_length = len(self._history), len(self._suffix)

    def history(self, users: Tensor) -> Ragged:
        """``user_i has interacted with``: ``(S,)`` user numbers -> S rows of int64 ids."""
        return self._filled(_repeated(self._history, len(users)), users)

    def recommendation(self, users: Tensor, items: Ragged) -> Ragged:
        """History, items and suffix of ``(S,)`` users: the prompt of the recommendation head."""
        suffix = self._filled(_repeated(self._suffix, len(users)), users)
        return join_rows([self.history(users), self.items(items), suffix])

    def items(self, items: Ragged) -> Ragged:
        """Item numbers -> rows of their tokens (int64)."""
        return Ragged(self.vocabulary.item_tokens(items.values), items.offsets)

    def content(self, kinds: Tensor, users: Tensor, items: Tensor) -> Ragged:
        """Prompts of texts of ``(S,)`` kinds; users and items are anything where none is named."""
        return self._filled(self._content.select(kinds), users, items)

    def _filled(self, rows: Ragged, users: Tensor, items: Tensor | None = None) -> Ragged:
        """Fill in users and items."""
        values, row = rows.values.clone(), rows.rows
        at = values == _USER
        values[at] = self.vocabulary.user_tokens(users[row[at]])
        if items is not None:
            at = values == _ITEM
            values[at] = self.vocabulary.item_tokens(items[row[at]])
        return Ragged(values, rows.offsets)


def content_kind(name: str) -> int:
    """The number of a kind of text; ConfigError if it is unknown."""
    if name not in CONTENT_KINDS:
        raise ConfigError(f"unknown kind of text {name!r}; {nearest(name, CONTENT_KINDS)}")
    return CONTENT_KINDS.index(name)


def _compiled(tokenizer: SoftTokenizer, sentence: str) -> Tensor:
    """Token ids of a sentence, int64, with negative numbers as placeholders of user and item."""
    known = tokenizer.vocabulary
    ids = torch.tensor(tokenizer.encode(sentence.format(user="user_0", item="item_0")))
    ids = ids.masked_fill(ids == known.first_user, _USER)
    return ids.masked_fill(ids == known.first_item, _ITEM)


def _repeated(ids: Tensor, count: int) -> Ragged:
    return from_lengths(ids.repeat(count), torch.full((count,), len(ids)))


@dataclass(frozen=True)
class PromptBatch:
    """Sequences of one task.

    Attributes:
        tokens: S rows of int64 ids, each a prompt and its main text.
        prompt_lengths: ``(S,)`` int64.
        users: ``(S,)`` int64 user numbers (-1: a text about an item alone).
        counted_users: ``(n,)`` int64 users that mutual regularisation counts.
        counted_items: ``(m,)`` int64 items that it counts.
        targets: items to be predicted, of each row; None for language modelling.
    """

    tokens: Ragged
    prompt_lengths: Tensor
    users: Tensor
    counted_users: Tensor
    counted_items: Tensor
    targets: Ragged | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device | str) -> PromptBatch:
        """A copy on another device."""
        moved = {name: each.to(device) for name, each in vars(self).items() if each is not None}
        return PromptBatch(**moved)

    def part(self, rows: Tensor, *, counts: bool) -> PromptBatch:
        """Select sequences ``(n,)``; ``counts``: the counts of the whole batch."""
        none = self.counted_users.new_zeros(0)
        return PromptBatch(
            self.tokens.select(rows),
            self.prompt_lengths[rows],
            self.users[rows],
            self.counted_users if counts else none,
            self.counted_items if counts else none,
            None if self.targets is None else self.targets.select(rows),
        )


class _UserPrompts(ABC):
    """Prompts of users' items.

    Args:
        items: I rows of the distinct train items of every user, ascending.
        settings: masking, targets, reordering and length.
        seed: of masks and item orders.

    Attributes:
        users: ``(n,)`` int64 users that have interactions; others are left out.
    """

    def __init__(
        self, items: Ragged, templates: Templates, settings: Cllm4RecConfig, *, seed: int
    ) -> None:
        self.users = (items.lengths > 0).nonzero()[:, 0]
        self._items, self._templates, self._settings = items, templates, settings
        self._seed, self._cold = seed, torch.zeros(0, dtype=torch.int64)
        self._most = room_for_items(settings.max_length, templates.history_length)
        if settings.mutual.cold_items:  # those in nobody's row count, too
            counts = torch.bincount(items.values.long(), minlength=templates.vocabulary.items)
            self._cold = (counts == 0).nonzero()[:, 0]

    def __len__(self) -> int:
        return len(self.users)

    def rows(self, rows: Tensor, *, epoch: int) -> PromptBatch:
        """Make the batch of rows ``(S,)``: row r is the r-th of ``users``."""
        return self.batch(self.users[rows], epoch=epoch)

    @abstractmethod
    def batch(self, users: Tensor, *, epoch: int) -> PromptBatch:
        """Make prompts of ``(S,)`` users in the order and with the masks of one epoch."""


class InteractionLM(_UserPrompts):
    """``user_i has interacted with`` · ``item_a item_b ...`` (section 3.3)."""

    def batch(self, users: Tensor, *, epoch: int) -> PromptBatch:
        """Prompts and items of ``(S,)`` users in one epoch's order."""
        items = self._items.select(users)
        if self._settings.collaborative.reorder:
            items = shuffled(items, users, self._seed, epoch, _PRETRAINING)
        items = items.head(self._most)
        prompts = self._templates.history(users)
        return PromptBatch(
            tokens=join_rows([prompts, self._templates.items(items)]),
            prompt_lengths=prompts.lengths,
            users=users,
            counted_users=users,
            counted_items=torch.cat([items.values.long(), self._cold]),
        )


class RecommendationPrompts(_UserPrompts):
    """``user_i has interacted with item_a ..., user_i will interact with`` (section 3.5)."""

    def __init__(
        self, items: Ragged, templates: Templates, settings: Cllm4RecConfig, *, seed: int
    ) -> None:
        super().__init__(items, templates, settings, seed=seed)
        around = templates.history_length + templates.suffix_length
        self._most_alone, self._most = self._most, room_for_items(settings.max_length, around)

    def batch(self, users: Tensor, *, epoch: int) -> PromptBatch:
        """Masked prompts of ``(S,)`` users, with their targets."""
        mutual, target = self._settings.mutual, self._settings.recommendation.target
        all_items = self._items.select(users)
        hidden, seen = self.masked(users, epoch=epoch)
        shown = seen.head(self._most)
        counted = all_items if mutual.on_recommendation_targets else shown
        return replace(
            _without_main(users, self._templates.recommendation(users, shown)),
            counted_users=torch.cat([users] * (1 + mutual.user_twice_in_recommendation)),
            counted_items=torch.cat([counted.values.long(), self._cold]),
            targets=hidden if target == "holdout" else all_items,
        )

    def masked(self, users: Tensor, *, epoch: int) -> tuple[Ragged, Ragged]:
        """Hide ``max(1, int(ratio * n))`` of each user's n items: what is hidden, what is seen."""
        own, items = self._settings.recommendation, self._items.select(users)
        order = shuffled(items, users, self._seed, epoch, _FINETUNING)
        # as python's int(0.2 * n): in double precision, towards zero
        count = (own.mask_ratio * items.lengths.double()).long().clamp(min=1)
        count = count.minimum(items.lengths)
        hidden, seen = order.head(count), order.tail(order.lengths - count)
        return hidden, seen if own.reorder else _sorted(seen)

    def prompts(self, users: Tensor, *, items: Ragged | None = None, draw: int = 0) -> PromptBatch:
        """Prompts of ``(S,)`` users for scoring all items, as ``recommendation.scoring`` says.

        Without a suffix the item language model scores them (LLM-PreRec). ``items`` are S rows of
        distinct ascending items that they have; None: the train items. ``draw`` numbers the random
        orders of items.
        """
        own = self._settings.recommendation
        items = self._items.select(users) if items is None else items
        if own.test_order == "random" or own.test_orders > 1:
            items = shuffled(items, users, self._seed, draw, _TEST)
        if own.scoring == "recommendation":
            tokens = self._templates.recommendation(users, items.head(self._most))
        else:
            shown = self._templates.items(items.head(self._most_alone))
            tokens = join_rows([self._templates.history(users), shown])
        return _without_main(users, tokens)


class ContentLM:
    """``user_i wrote the following review for item_j:`` · its words, and other texts (section 3.4).

    Args:
        kinds: ``(R,)`` int64 rows of ``CONTENT_KINDS``.
        users, items: ``(R,)`` int64; -1 where a kind names none.
        texts: R rows of word ids.

    Raises:
        DataError: a text names a user or an item where its sentence has none, or the reverse.
    """

    def __init__(
        self,
        kinds: Tensor,
        users: Tensor,
        items: Tensor,
        texts: Ragged,
        templates: Templates,
        settings: Cllm4RecConfig,
    ) -> None:
        given = torch.stack([users, items], 1)  # (R, 2)
        wrong = ((given >= 0) != templates.names[kinds]).nonzero().tolist()
        if wrong:
            row, side = wrong[0]
            named = "one" if templates.names[kinds[row], side] else "none"
            raise DataError(
                f"text {row}: {('user', 'item')[side]} {int(given[row, side])}, but its sentence "
                f"names {named}"
            )
        self._columns = (kinds, users, items)
        self._texts, self._templates, self._most = texts, templates, settings.max_length

    def __len__(self) -> int:
        return len(self._texts)

    def rows(self, rows: Tensor, *, epoch: int) -> PromptBatch:
        """The batch of rows ``(S,)``, the same in every epoch."""
        del epoch
        return self.batch(rows)

    def batch(self, rows: Tensor) -> PromptBatch:
        """Prompts and texts of ``(S,)`` rows; long texts lose their end.

        Raises:
            ConfigError: ``max_length`` leaves no room for a word.
        """
        kinds, users, items = (column[rows] for column in self._columns)
        prompts = self._templates.content(kinds, users, items)
        room_for_items(self._most, int(prompts.lengths.max()) if len(rows) else 0)
        texts = self._texts.select(rows)
        kept = texts.lengths.minimum(self._most - prompts.lengths)
        texts = Ragged(texts.values.long(), texts.offsets)
        return PromptBatch(
            tokens=join_rows([prompts, texts.head(kept)]),
            prompt_lengths=prompts.lengths,
            users=users,
            counted_users=users[users >= 0],
            counted_items=items[items >= 0],
        )


def shuffled(items: Ragged, users: Tensor, *keys: int) -> Ragged:
    """Shuffle each row: a function of its user, seed, epoch and task."""
    if not items.values.numel():
        return items
    width = int(items.lengths.max())
    _, mask = padded_aranges(items.offsets[:-1], items.lengths, width)  # (S, W)
    bits = keyed_bits(users, width, *keys).masked_fill(~mask, _LAST)
    at = items.offsets[:-1, None] + bits.argsort(dim=1, stable=True)
    return Ragged(items.values[at[mask]], items.offsets)


def room_for_items(max_length: int, around: int) -> int:
    """Number of items that fit beside ``around`` other tokens; ConfigError if none does."""
    if max_length <= around:
        raise ConfigError(
            f"max_length is {max_length}, but a prompt takes {around} tokens and at least one must "
            f"follow; expected {around + 1} or more"
        )
    return max_length - around


def _without_main(users: Tensor, prompts: Ragged) -> PromptBatch:
    none = users.new_zeros(0)
    return PromptBatch(prompts, prompts.lengths, users, none, none)


def _sorted(items: Ragged) -> Ragged:
    """Sort every row."""
    order = torch.argsort(items.values, stable=True)
    order = order[torch.argsort(items.rows[order], stable=True)]
    return Ragged(items.values[order], items.offsets)
