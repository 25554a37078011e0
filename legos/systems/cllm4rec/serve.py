"""Serving one user at a time with the key-value cache of the history kept.

A new event costs one token, a recommendation the suffix; the history is read once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from legos.data.ragged import Ragged, from_lengths
from legos.errors import DataError
from legos.systems.cllm4rec.model import Cllm4Rec
from legos.systems.cllm4rec.predict import top_items
from legos.systems.cllm4rec.templates import Templates


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
