"""Text with users and items in it as token ids: any Hugging Face tokenizer, extended from outside.

``user_3`` and ``item_5`` are one token each; what stands between them is tokenized by itself, with
trailing blanks removed and neither special tokens nor a beginning added, as in the public code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from legos.data.ragged import Ragged, from_rows, offsets_of
from legos.errors import ConfigError, DataError
from legos.lm.tokenizer import literal_copy, token_ids

_ANYWHERE = re.compile(r"(user_\d+|item_\d+)")
_WHOLE_WORDS = re.compile(r"(?<!\w)(user_\d+|item_\d+)(?!\w)")
_SHOWN = 60  # characters of a text in an error


@dataclass(frozen=True)
class Vocabulary:
    """Ids ``0 .. N-1`` are words, ``N .. N+I-1`` users, ``N+I .. N+I+J-1`` items (section 3.2).

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
        for name, count in vars(self).items():
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
        """Tokens of users by number, any shape, int64; DataError where there is no such user."""
        refuse_outside(users, self.users, "user")
        return users.long() + self.first_user

    def item_tokens(self, items: Tensor) -> Tensor:
        """Tokens of items by number, any shape, int64; DataError where there is no such item."""
        refuse_outside(items, self.items, "item")
        return items.long() + self.first_item


def refuse_outside(ids: Tensor, limit: int, what: str) -> None:
    """Raise DataError unless ``0 <= ids < limit``; the first that is not is named.

    The public code clamps such ids: another user's or item's vector would be read.
    """
    wrong = ids[(ids < 0) | (ids >= limit)]
    if wrong.numel():
        raise DataError(f"{what} {int(wrong[0])}: expected 0 to {limit - 1}")


class SoftTokenizer:
    """A tokenizer that knows I users and J items besides its own words.

    Args:
        base: of the language model; it is left as it is.
        vocabulary: how ids are laid out; its words are the rows of the backbone's token table.
        strict: refuse what looks like a user or an item and is none (``user_01``, a number out of
            range); else it is text, as in the public code.
        word_boundary: find users and items only where a word begins and ends; the public code sees
            user_1 in ``superuser_1``.

    Raises:
        ConfigError: the tokenizer has more words than the backbone's table.
    """

    def __init__(
        self,
        base: Tokenizer,
        vocabulary: Vocabulary,
        *,
        strict: bool = False,
        word_boundary: bool = False,
    ) -> None:
        self.vocabulary, self._strict = vocabulary, strict
        self._pattern = _WHOLE_WORDS if word_boundary else _ANYWHERE
        self._base = literal_copy(base)
        largest = base.get_vocab_size()
        if largest > vocabulary.words:
            raise ConfigError(
                f"tokenizer has {largest} tokens, the backbone's table only {vocabulary.words}; "
                "give the tokenizer that belongs to the backbone"
            )

    def encode(self, text: str) -> list[int]:
        """Token ids of one text."""
        ids: list[int] = self.encode_batch([text]).values.tolist()
        return ids

    def tokens(self, text: str) -> list[str]:
        """The tokens of one text, spelled out: users and items, and words as their tokenizer has
        them (GPT-2's `Ġ` is a blank)."""
        known = self.vocabulary

        def spelled(number: int) -> str:
            if number >= known.first_item:
                return f"item_{number - known.first_item}"
            if number >= known.first_user:
                return f"user_{number - known.first_user}"
            return str(self._base.id_to_token(number))

        return [spelled(number) for number in self.encode(text)]

    def encode_batch(self, texts: Sequence[str]) -> Ragged:
        """Token ids of many texts: int32, packed, one row a text.

        Raises:
            DataError: ``strict``, and a text names a user or an item that does not exist.
        """
        split = [self._split(text) for text in texts]
        pieces = [(piece, text) for text, some in zip(texts, split, strict=True) for piece in some]
        soft = [self._soft_id(piece, text) for piece, text in pieces]
        words = [piece for (piece, _), own in zip(pieces, soft, strict=True) if own is None]
        plain = iter(token_ids(self._base, words))
        rows = [next(plain) if own is None else np.array([own], np.int32) for own in soft]
        counts = np.fromiter(map(len, split), np.int64, len(split))
        return from_rows(rows, "int32").grouped(offsets_of(counts)).tensors()

    def encode_plain(self, texts: Sequence[str], *, leading_space: bool = False) -> Ragged:
        """Token ids of texts in which nothing is a user or an item: int32, packed.

        Trailing blanks go. ``leading_space`` puts a blank before each (the public preprocessing
        does, its demo does not): its first word is then tokenized as one inside a sentence.
        """
        space = " " if leading_space else ""
        rows = token_ids(self._base, [(space + text).rstrip() for text in texts])
        return from_rows(rows, "int32").tensors()

    def _split(self, text: str) -> list[str]:
        pieces = self._pattern.split(text) if "user_" in text or "item_" in text else [text]
        return [kept for piece in pieces if (kept := piece.rstrip())]

    def _soft_id(self, piece: str, text: str) -> int | None:
        """The id of a piece that names a user or an item."""
        kind, _, number = piece.partition("_")
        if kind not in ("user", "item") or self._pattern.fullmatch(piece) is None:
            return None
        known = self.vocabulary
        first, limit = known.first_user, known.users
        if kind == "item":
            first, limit = known.first_item, known.items
        if number == str(int(number)) and int(number) < limit:  # not user_01, nor other digits
            return first + int(number)
        if self._strict:
            raise DataError(
                f"{piece!r} in {text[:_SHOWN]!r}: there are {limit} {kind}s, expected {kind}_0 to "
                f"{kind}_{limit - 1} without leading zeros"
            )
        return None


def pad(rows: Ragged) -> tuple[Tensor, Tensor]:
    """Lay rows out side by side, filled on the right with zeros (id 0 is a real token: mask it).

    N rows of ids or of vectors -> values ``(N, W)`` int64 or ``(N, W, D)``, and mask ``(N, W)``
    bool, True = a token.
    """
    lengths, values = rows.lengths, rows.values
    values = values if values.is_floating_point() else values.long()
    padded = pad_sequence(values.split(lengths.tolist()), batch_first=True)
    return padded, torch.arange(padded.shape[1], device=lengths.device) < lengths[:, None]
