"""The sentences of prompts, tokenized once and filled in as id arrays.

CLLM4Rec, sections 3.3 to 3.5; the sentences of ``public_code`` are those of its data files.
"""

from __future__ import annotations

import torch
from torch import Tensor

from legos.data.ragged import Ragged, from_lengths, join_rows
from legos.errors import ConfigError, nearest
from legos.systems.cllm4rec.settings import Preset
from legos.systems.cllm4rec.tokenizer import SoftTokenizer

_USER, _ITEM = -1, -2  # places in a tokenized sentence
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
    """All prompts of one tokenizer and wording.

    Args:
        tokenizer: that of the backbone, with users and items.
        wording: whose sentences.

    Attributes:
        suffix_length: tokens after the items of a recommendation prompt.
        history_length: tokens before the items.
    """

    def __init__(self, tokenizer: SoftTokenizer, *, wording: Preset) -> None:
        self.vocabulary, self.wording = tokenizer.vocabulary, wording
        self._history = _compiled(tokenizer, _HISTORY)
        # as it is tokenized behind an item
        self._suffix = _compiled(tokenizer, "{item}" + _SUFFIXES[wording])[1:]
        sentences = [_REVIEWS[wording], *_CONTENT.values()]
        compiled = [_compiled(tokenizer, sentence) for sentence in sentences]
        lengths = torch.tensor([len(ids) for ids in compiled])
        self._content = from_lengths(torch.cat(compiled), lengths)
        self._needs_user = ["{user}" in sentence for sentence in sentences]
        self._needs_item = ["{item}" in sentence for sentence in sentences]
        self.history_length, self.suffix_length = len(self._history), len(self._suffix)

    def history(self, users: Tensor) -> Ragged:
        """``user_i has interacted with``: ``(S,)`` user numbers -> S rows of int64 ids."""
        rows = torch.zeros(len(users), dtype=torch.int64)
        return self._filled(from_lengths(self._history, _one(self._history)).select(rows), users)

    def recommendation(self, users: Tensor, items: Ragged) -> Ragged:
        """History, items and suffix: the prompt of the recommendation head.

        Args:
            users: ``(S,)`` int64 user numbers.
            items: S rows of item numbers; without any, the suffix follows the history at once.

        Returns:
            S rows of int64 ids.
        """
        rows = torch.zeros(len(users), dtype=torch.int64)
        suffix = from_lengths(self._suffix, _one(self._suffix)).select(rows)
        return join_rows([self.history(users), self.items(items), self._filled(suffix, users)])

    def items(self, items: Ragged) -> Ragged:
        """Item numbers -> rows of their tokens (int64)."""
        return Ragged(self.vocabulary.item_tokens(items.values), items.offsets)

    def content(self, kinds: Tensor, users: Tensor, items: Tensor) -> Ragged:
        """Prompts of texts.

        Args:
            kinds: ``(S,)`` int64 rows of ``CONTENT_KINDS``, see :func:`content_kind`.
            users: ``(S,)`` int64 user numbers; anything where the sentence has no user.
            items: ``(S,)`` int64 item numbers; anything where the sentence has no item.

        Returns:
            S rows of int64 ids.
        """
        return self._filled(self._content.select(kinds), users, items)

    def named_by(self, kinds: Tensor) -> tuple[Tensor, Tensor]:
        """Whether prompts of these kinds name a user, and an item: two ``(S,)`` bool."""
        return torch.tensor(self._needs_user)[kinds], torch.tensor(self._needs_item)[kinds]

    def _filled(self, rows: Ragged, users: Tensor, items: Tensor | None = None) -> Ragged:
        """Put users and items in their places."""
        values, row = rows.values.clone(), rows.rows
        for place, numbers, tokens in (
            (_USER, users, self.vocabulary.user_tokens),
            (_ITEM, items, self.vocabulary.item_tokens),
        ):
            at = values == place
            if numbers is not None:
                values[at] = tokens(numbers[row[at]])
        return Ragged(values, rows.offsets)


def content_kind(name: str) -> int:
    """The number of a kind of text.

    Raises:
        ConfigError: unknown.
    """
    if name not in CONTENT_KINDS:
        raise ConfigError(f"unknown kind of text {name!r}; {nearest(name, CONTENT_KINDS)}")
    return CONTENT_KINDS.index(name)


def _compiled(tokenizer: SoftTokenizer, sentence: str) -> Tensor:
    """A sentence's ids, int64, with negative numbers where its user and item belong."""
    vocabulary = tokenizer.vocabulary
    ids = torch.tensor(tokenizer.encode(sentence.format(user="user_0", item="item_0")))
    ids[ids == vocabulary.first_user] = _USER
    ids[ids == vocabulary.first_item] = _ITEM
    return ids


def _one(values: Tensor) -> Tensor:
    return torch.tensor([len(values)])
