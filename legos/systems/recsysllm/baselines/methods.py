"""What a language model has to beat: means of ratings, and the most frequent phrase."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from legos.errors import DataError

Mean = Literal["global", "user", "item", "user+item"]


class RatingMeans:
    """Ratings predicted by means of the training ones.

    ``user+item`` adds to the global mean how far the user and the item are off it on average, both
    means shrunk as by ``shrink`` ratings at the global mean; ``user`` and ``item`` are shrunk too.

    Args:
        users, items: ``(R,)`` int64 of the training ratings.
        ratings: ``(R,)`` float32, all known.
        num_users, num_items: how many there are.
        shrink: ratings at the mean that everyone begins with.

    Raises:
        DataError: no ratings, or an unknown one.
    """

    def __init__(
        self,
        users: Tensor,
        items: Tensor,
        ratings: Tensor,
        *,
        num_users: int,
        num_items: int,
        shrink: float = 0.0,
    ) -> None:
        if not ratings.numel() or not bool(ratings.isfinite().all()):
            raise DataError(
                f"{ratings.numel()} training ratings; expected known ones, at least one"
            )
        stars = ratings.double()
        self.mean = float(stars.mean())
        self.user_offsets = _offsets(users, stars - self.mean, num_users, shrink)
        left = stars - self.mean - self.user_offsets[users]
        self.item_offsets = _offsets(items, stars - self.mean, num_items, shrink)
        self.item_offsets_after_users = _offsets(items, left, num_items, shrink)

    def predict(self, users: Tensor, items: Tensor, kind: Mean) -> Tensor:
        """``(B,)`` float64 ratings from 1 to 5; unknown users and items have the global mean."""
        found = torch.full((users.numel(),), self.mean, dtype=torch.float64)
        if kind in ("user", "user+item"):
            found = found + self.user_offsets[users]
        if kind == "item":
            found = found + self.item_offsets[items]
        if kind == "user+item":
            found = found + self.item_offsets_after_users[items]
        return found.clamp(1.0, 5.0)


class FrequentPhrase:
    """The most frequent training phrase: of an item where it has one, else of all.

    Of equally frequent phrases the first met wins.

    Args:
        items: ``(R,)`` int64 of the training phrases.
        phrases: R explanations or headlines, "" where there is none.

    Raises:
        DataError: there is no phrase at all, or not one an item.
    """

    def __init__(self, items: Tensor, phrases: Sequence[str]) -> None:
        if items.numel() != len(phrases) or not any(phrase.strip() for phrase in phrases):
            raise DataError(f"{len(phrases)} phrases for {items.numel()} items; expected some text")
        every: Counter[str] = Counter()
        self._of_items: dict[int, Counter[str]] = {}
        for item, phrase in zip(items.tolist(), phrases, strict=True):
            if phrase.strip():
                every[phrase] += 1
                self._of_items.setdefault(item, Counter())[phrase] += 1
        self.phrase = every.most_common(1)[0][0]

    def predict(self, items: Tensor, *, by_item: bool) -> list[str]:
        """A phrase for each item ``(B,)``."""
        if not by_item:
            return [self.phrase] * items.numel()
        found = (self._of_items.get(item) for item in items.tolist())
        return [own.most_common(1)[0][0] if own else self.phrase for own in found]


def _offsets(rows: Tensor, values: Tensor, count: int, shrink: float) -> Tensor:
    """Mean of the values of each row, 0 without any: ``(count,)`` float64."""
    sums = torch.zeros(count, dtype=torch.float64).index_add_(0, rows, values)
    numbers = torch.bincount(rows, minlength=count).double()
    return sums / (numbers + shrink).clamp(min=1e-12)
