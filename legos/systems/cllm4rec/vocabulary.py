"""The ids of the extended vocabulary: words, then users, then items (CLLM4Rec, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from legos.errors import ConfigError, DataError


@dataclass(frozen=True)
class Vocabulary:
    """``0 .. N-1`` words, ``N .. N+I-1`` users, ``N+I .. N+I+J-1`` items.

    Attributes:
        words: N, rows of the backbone's token table (``config.vocab_size``), which may be more than
            its tokenizer knows.
        users: I.
        items: J.
    """

    words: int
    users: int
    items: int

    def __post_init__(self) -> None:
        for name in ("words", "users", "items"):
            count = getattr(self, name)
            if count < 1:
                raise ConfigError(f"vocabulary: {count} {name}, expected 1 or more")

    @property
    def first_user(self) -> int:
        """Token of user 0: N."""
        return self.words

    @property
    def first_item(self) -> int:
        """Token of item 0: N + I."""
        return self.words + self.users

    @property
    def size(self) -> int:
        """N + I + J."""
        return self.words + self.users + self.items

    def user_tokens(self, users: Tensor) -> Tensor:
        """Tokens of users by number, any shape, int64.

        Raises:
            DataError: there is no such user.
        """
        refuse_outside(users, self.users, "user")
        return users.long() + self.first_user

    def item_tokens(self, items: Tensor) -> Tensor:
        """Tokens of items by number, any shape, int64.

        Raises:
            DataError: there is no such item.
        """
        refuse_outside(items, self.items, "item")
        return items.long() + self.first_item

    def is_word(self, ids: Tensor) -> Tensor:
        """Which ids are words: bool of the same shape."""
        return ids < self.first_user

    def is_user(self, ids: Tensor) -> Tensor:
        """Which ids are users: bool of the same shape."""
        return (ids >= self.first_user) & (ids < self.first_item)

    def is_item(self, ids: Tensor) -> Tensor:
        """Which ids are items: bool of the same shape."""
        return ids >= self.first_item

    def check(self, ids: Tensor) -> None:
        """Raise DataError unless all ids are of this vocabulary."""
        refuse_outside(ids, self.size, "token id")


def refuse_outside(ids: Tensor, limit: int, what: str) -> None:
    """Raise DataError unless ``0 <= ids < limit``; the first that is not is named.

    The public code clamps such ids: another user's or item's vector would be read.
    """
    if not ids.numel():
        return
    low, high = torch.aminmax(ids)
    if int(low) < 0 or int(high) >= limit:
        wrong = ids[(ids < 0) | (ids >= limit)].reshape(-1)[0]
        raise DataError(f"{what} {int(wrong)}: expected 0 to {limit - 1}")
