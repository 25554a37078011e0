"""Text with users and items in it as token ids: any Hugging Face tokenizer, extended from outside.

``user_3`` and ``item_5`` are one token each; what stands between them is tokenized by itself, with
trailing blanks removed and neither special tokens nor a beginning added, as in the public code.
Composed, not inherited: subclasses of slow tokenizers broke with transformers 5.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from legos.data.ragged import Ragged, RaggedArray, from_lengths, offsets_of
from legos.errors import ConfigError, DataError

_ANYWHERE = re.compile(r"(user_\d+|item_\d+)")
_WHOLE_WORDS = re.compile(r"(?<!\w)(user_\d+|item_\d+)(?!\w)")
_SHOWN = 60  # characters of a text in an error


class SoftTokenizer:
    """A tokenizer that knows I users and J items besides its own words.

    Args:
        base: a ``tokenizers.Tokenizer`` or a tokenizer of transformers; it is left as it is.
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
        base: Any,
        vocabulary: Vocabulary,
        *,
        strict: bool = False,
        word_boundary: bool = False,
    ) -> None:
        self.vocabulary, self.strict = vocabulary, strict
        self._pattern = _WHOLE_WORDS if word_boundary else _ANYWHERE
        backend = base if isinstance(base, Tokenizer) else getattr(base, "backend_tokenizer", None)
        self._fast = None if backend is None else _plain_copy(backend)
        self._slow = base
        largest = self._fast.get_vocab_size() if self._fast is not None else len(base)
        if largest > vocabulary.words:
            raise ConfigError(
                f"tokenizer has {largest} tokens, the backbone's table only {vocabulary.words}; "
                "give the tokenizer that belongs to the backbone"
            )

    def encode(self, text: str) -> list[int]:
        """Token ids of one text."""
        ids: list[int] = self.encode_batch([text]).values.tolist()
        return ids

    def encode_batch(self, texts: Sequence[str]) -> Ragged:
        """Token ids of many texts: int32, packed, one row a text.

        Raises:
            DataError: ``strict``, and a text names a user or an item that does not exist.
        """
        pieces: list[str] = []
        counts = np.zeros(len(texts), dtype=np.int64)  # pieces of each text
        soft: list[int] = []  # the id of a piece that is a user or an item, else -1
        for row, text in enumerate(texts):
            before = len(soft)
            for piece in self._split(text):
                token = self._soft_id(piece, text)
                soft.append(-1 if token is None else token)
                if token is None:
                    pieces.append(piece)
            counts[row] = len(soft) - before
        return _join(np.array(soft, dtype=np.int64), counts, self._encode_plain(pieces))

    def encode_plain(self, texts: Sequence[str], *, leading_space: bool = False) -> Ragged:
        """Token ids of texts in which nothing is a user or an item: int32, packed.

        As :meth:`encode_batch` otherwise: trailing blanks go.

        Args:
            texts: main texts, such as reviews.
            leading_space: put a blank before each (the public preprocessing does, its demo does
                not): its first word is then tokenized as one inside a sentence.
        """
        space = " " if leading_space else ""
        pieces = [(space + text).rstrip() for text in texts]
        encoded = self._encode_plain(pieces)
        lengths = np.fromiter((len(ids) for ids in encoded), np.int64, len(encoded))
        return from_lengths(_flat(encoded), lengths).tensors()

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """The text of ids; a blank that stood before a user or an item is lost.

        Raises:
            DataError: an id is out of range.
        """
        tensor = torch.as_tensor(ids, dtype=torch.int64)
        self.vocabulary.check(tensor)
        parts: list[str] = []
        run: list[int] = []
        for token in tensor.tolist():
            if token < self.vocabulary.first_user:
                run.append(token)
                continue
            parts += [self._decode_plain(run), self._soft_name(token)]
            run = []
        return "".join([*parts, self._decode_plain(run)])

    def _split(self, text: str) -> list[str]:
        if "user_" not in text and "item_" not in text:
            stripped = text.rstrip()
            return [stripped] if stripped else []
        return [kept for piece in self._pattern.split(text) if (kept := piece.rstrip())]

    def _soft_id(self, piece: str, text: str) -> int | None:
        """The id of a piece that names a user or an item."""
        kind, _, number = piece.partition("_")
        if kind not in ("user", "item") or self._pattern.fullmatch(piece) is None:
            return None
        of_user = kind == "user"
        limit = self.vocabulary.users if of_user else self.vocabulary.items
        if number == str(int(number)) and int(number) < limit:  # not user_01, nor other digits
            first = self.vocabulary.first_user if of_user else self.vocabulary.first_item
            return first + int(number)
        if self.strict:
            raise DataError(
                f"{piece!r} in {text[:_SHOWN]!r}: there are {limit} {kind}s, expected {kind}_0 to "
                f"{kind}_{limit - 1} without leading zeros"
            )
        return None

    def _soft_name(self, token: int) -> str:
        if token < self.vocabulary.first_item:
            return f"user_{token - self.vocabulary.first_user}"
        return f"item_{token - self.vocabulary.first_item}"

    def _encode_plain(self, pieces: Sequence[str]) -> list[list[int]]:
        if not pieces:
            return []
        if self._fast is not None:
            found = self._fast.encode_batch_fast(list(pieces), add_special_tokens=False)
            return [encoding.ids for encoding in found]
        ids: list[list[int]] = self._slow(
            list(pieces), add_special_tokens=False, split_special_tokens=True
        )["input_ids"]
        return ids

    def _decode_plain(self, ids: list[int]) -> str:
        if not ids:
            return ""
        if self._fast is not None:
            text: str = self._fast.decode(ids, skip_special_tokens=False)
            return text
        return str(self._slow.decode(ids, clean_up_tokenization_spaces=False))


def pad(tokens: Ragged, *, width: int = 0) -> tuple[Tensor, Tensor]:
    """Lay packed tokens out in rows, filled on the right with id 0 (a real token: mask it).

    Args:
        tokens: N rows.
        width: the least number of columns; rows are never cut.

    Returns:
        ids ``(N, W)`` int64 and mask ``(N, W)`` int64, 1 = a token.
    """
    lengths = tokens.lengths
    longest = max(width, int(lengths.max()) if len(tokens) else 0)
    mask = torch.arange(longest, device=lengths.device) < lengths[:, None]  # (N, W)
    ids = torch.zeros(mask.shape, dtype=torch.int64, device=lengths.device)
    ids[mask] = tokens.values.long()
    return ids, mask.long()


def _plain_copy(backend: Tokenizer) -> Tokenizer:
    """The same tokenizer that neither cuts, pads nor sees special tokens in text."""
    copy = Tokenizer.from_str(backend.to_str())
    copy.no_truncation()
    copy.no_padding()
    copy.encode_special_tokens = True
    return copy


def _flat(encoded: Sequence[Sequence[int]]) -> np.ndarray:
    if not encoded:
        return np.zeros(0, dtype=np.int32)
    return np.concatenate([np.asarray(ids, dtype=np.int32) for ids in encoded])


def _join(soft: np.ndarray, counts: np.ndarray, encoded: Sequence[Sequence[int]]) -> Ragged:
    """Put what was tokenized in its places among users and items.

    Args:
        soft: ``(Q,)`` a piece's id where it is a user or an item, else -1.
        counts: ``(N,)`` pieces of each text.
        encoded: ids of the pieces that are neither, in order.
    """
    lengths = np.ones(len(soft), dtype=np.int64)  # tokens of each piece
    is_text = soft < 0
    lengths[is_text] = [len(ids) for ids in encoded]
    values = np.repeat(soft, lengths).astype(np.int32)
    values[np.repeat(is_text, lengths)] = _flat(encoded)
    pieces: RaggedArray = from_lengths(values, lengths)
    return pieces.grouped(offsets_of(counts)).tensors()


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
