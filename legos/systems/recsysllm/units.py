"""Text as units: plain words, and entities that are never split.

RecSysLLM, section 3.1. Every unit is tokenized by itself, never the joined text: a tokenizer may
merge the end of an entity with what follows (GPT-2 makes ``),`` of a title's ``)`` and a comma).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from legos.data.ragged import Ragged, from_rows, join_rows, offsets_of, stack
from legos.errors import DataError
from legos.lm.by_words import name_tokens
from legos.lm.tokenizer import literal_copy, token_ids

NEVER_DROPPED = -1
_CLOSING = "\"')]}»”’"
_QUOTES = f"[{re.escape(_CLOSING)}]*"
_SENTENCE_END = re.compile(rf"[.?!;…]{_QUOTES}(?=\s)\n*|[。？！；]{_QUOTES}\n*|\n+")
_ENDS = tuple(".?!;…。？！；\n")


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of text that is tokenized by itself.

    Attributes:
        text: without a blank before it.
        entity_type: item, brand, user, ...: never split by a mask; "": plain words.
        key: number of an entity among those of its type, else -1.
        space: whether a blank stands before it.
        event: which event of the user's past it tells of, the oldest 0, or behind these which
            candidate; where a document is too long events are dropped whole, the lowest first.
            ``NEVER_DROPPED``: none.
    """

    text: str
    entity_type: str = ""
    key: int = -1
    space: bool = True
    event: int = NEVER_DROPPED

    @property
    def surface(self) -> str:
        """The text as it is tokenized."""
        return " " + self.text if self.space else self.text


def plain(text: str, *, space: bool = True) -> Unit:
    """Words, at least one; blanks at both ends go."""
    if not text.strip():
        raise DataError("a plain unit without text")
    return Unit(text.strip(), space=space)


def entity(text: str, entity_type: str, key: int = -1, *, event: int = NEVER_DROPPED) -> Unit:
    """An entity with a text; blanks at both ends go, runs of blanks inside become one."""
    clean = " ".join(text.split())
    if not clean:
        raise DataError(f"{entity_type} {key}: an entity without text")
    return Unit(clean, entity_type, key, event=event)


def document_of(parts: Iterable[Sequence[Unit]]) -> list[Unit]:
    """Concatenate parts, the first without a blank before it.

    A comma is put between entities that would touch: no other pair of entities may be read out of
    their tokens.
    """
    units: list[Unit] = []
    for unit in chain.from_iterable(parts):
        if units and units[-1].entity_type and unit.entity_type:
            units.append(Unit(",", space=False, event=units[-1].event))
        units.append(unit)
    if units:
        units[0] = replace(units[0], space=False)
    return units


@dataclass(frozen=True)
class Documents:
    """N documents of U units in all, as columns.

    Attributes:
        units: U rows of token ids (int32).
        offsets: ``(N + 1,)`` int64; document n owns the units ``offsets[n]:offsets[n + 1]``.
        is_entity: ``(U,)`` bool.
        ends_sentence: ``(U,)`` bool: a plain unit after which a sentence is over.
        events: ``(U,)`` int64, see :class:`Unit`.
    """

    units: Ragged
    offsets: Tensor
    is_entity: Tensor
    ends_sentence: Tensor
    events: Tensor

    def __len__(self) -> int:
        return self.offsets.numel() - 1

    @property
    def tokens(self) -> Ragged:
        """N rows of token ids."""
        return self.units.grouped(self.offsets)

    @property
    def numbers(self) -> Ragged:
        """N rows of the numbers of their units."""
        return Ragged(torch.arange(len(self.units)), self.offsets)

    def take(self, numbers: Ragged) -> Documents:
        """Documents of units by number, a row each."""
        at = numbers.values
        columns = (self.is_entity[at], self.ends_sentence[at], self.events[at])
        return Documents(self.units.select(at), numbers.offsets, *columns)

    def followed_by(self, other: Documents) -> Documents:
        """Every document with the units of the same document of ``other`` after its own."""
        both = Documents(
            stack([self.units, other.units]),
            self.offsets,
            torch.cat([self.is_entity, other.is_entity]),
            torch.cat([self.ends_sentence, other.ends_sentence]),
            torch.cat([self.events, other.events]),
        )
        behind = Ragged(other.numbers.values + len(self.units), other.offsets)
        return both.take(join_rows([self.numbers, behind]))

    def truncated(self, max_tokens: int) -> Documents:
        """Cut documents to a number of tokens: the oldest events go first, with all their units.

        If that is not enough, the longest plain units lose their ends. Entities are never cut.

        Raises:
            DataError: what may not be dropped is longer than that.
        """
        too_many = self.tokens.lengths - max_tokens
        if not bool((too_many > 0).any()):
            return self
        numbers, keep = self.numbers, torch.ones(len(self.units), dtype=torch.bool)
        heads = self.units.lengths.clone()  # tokens a unit keeps
        for row in (too_many > 0).nonzero()[:, 0].tolist():
            left = self._shorten(numbers.row(row), int(too_many[row]), keep, heads)
            if left > 0:
                raise DataError(
                    f"document {row}: {max_tokens + left} tokens that may not be dropped, expected "
                    f"at most {max_tokens}; entities are never cut (raise max_tokens)"
                )
        whole = heads == self.units.lengths
        cut = replace(self, units=self.units.head(heads), ends_sentence=self.ends_sentence & whole)
        return cut.take(numbers.keep(keep))

    def _shorten(self, units: Tensor, too_many: int, keep: Tensor, heads: Tensor) -> int:
        """Drop events and ends of one document's units in place; tokens still too many."""
        events = self.events[units]
        for event in events[events != NEVER_DROPPED].unique().tolist():
            if too_many <= 0:
                return 0
            of_event = units[events == event]
            keep[of_event] = False
            too_many -= int(heads[of_event].sum())
        words = units[keep[units] & ~self.is_entity[units]]
        for unit in words[heads[words].argsort(descending=True)].tolist():
            if too_many <= 0:
                return 0
            gone = min(too_many, int(heads[unit]) - 1)
            heads[unit] -= gone
            too_many -= gone
        return too_many


class UnitTokenizer:
    """Units as token ids, each tokenized alone; entities once for all.

    Args:
        base: of the language model; it is left as it is.
    """

    def __init__(self, base: Tokenizer) -> None:
        self.fast = literal_copy(base)
        self._entities: dict[str, np.ndarray] = {}

    def encode_texts(self, texts: Sequence[str]) -> Ragged:
        """Token ids of texts, each alone: int32."""
        return from_rows(token_ids(self.fast, texts), "int32").tensors()

    def encode_names(self, names: Sequence[str]) -> Ragged:
        """Token ids of names without and with a blank before them: 2N rows, int32.

        Rows 2n and 2n + 1 are those of name n; names have single blanks between words, none at the
        ends, and at least one word.
        """
        surfaces = name_tokens(self.fast, names)
        order = np.arange(2 * len(names)).reshape(2, -1).T.reshape(-1)
        return stack(list(surfaces)).select(order).tensors()

    def encode(self, documents: Sequence[Sequence[Unit]]) -> Documents:
        """Documents as columns; a plain unit of several sentences becomes several units.

        Raises:
            DataError: the tokenizer makes no token of an entity.
        """
        split = [list(_split_sentences(document)) for document in documents]
        units = list(chain.from_iterable(split))
        ends = [not unit.entity_type and _ends_sentence(unit.text) for unit in units]
        return Documents(
            units=from_rows(self._rows(units), "int32").tensors(),
            offsets=offsets_of(torch.tensor([len(each) for each in split], dtype=torch.int64)),
            is_entity=torch.tensor([unit.entity_type != "" for unit in units], dtype=torch.bool),
            ends_sentence=torch.tensor(ends, dtype=torch.bool),
            events=torch.tensor([unit.event for unit in units], dtype=torch.int64),
        )

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        text: str = self.fast.decode(list(ids), skip_special_tokens=False)
        return text

    def _rows(self, units: Sequence[Unit]) -> list[np.ndarray]:
        """Token ids of each unit; every surface is tokenized once a call, entities once."""
        wanted = dict.fromkeys(unit.surface for unit in units)
        new = [surface for surface in wanted if surface not in self._entities]
        encoded = dict(zip(new, token_ids(self.fast, new), strict=True))
        for unit in units:
            if unit.entity_type and unit.surface in encoded:
                self._entities[unit.surface] = encoded[unit.surface]
        rows = []
        for unit in units:
            ids = encoded.get(unit.surface)
            rows.append(self._entities[unit.surface] if ids is None else ids)
            if unit.entity_type and not len(rows[-1]):
                raise DataError(f"entity {unit.text!r}: the tokenizer makes no token of it")
        return rows


def sentences(text: str) -> list[str]:
    """Split a text after each end of a sentence (``. ? ! ;`` before a blank, and the like).

    Blanks between sentences begin the later one, so that the joined pieces are the text.
    """
    cuts = [match.end() for match in _SENTENCE_END.finditer(text)]
    edges = [0, *(cut for cut in cuts if text[cut:].strip()), len(text)]
    return [text[a:b] for a, b in pairwise(edges) if b > a]


def _ends_sentence(text: str) -> bool:
    bare = text.rstrip(" \t\r")
    return bare.endswith("\n") or bare.rstrip(_CLOSING).endswith(_ENDS)


def _split_sentences(document: Iterable[Unit]) -> Iterator[Unit]:
    for unit in document:
        pieces = [unit.text] if unit.entity_type else sentences(unit.text)
        if len(pieces) < 2:
            yield unit
            continue
        yield replace(unit, text=pieces[0])
        for piece in pieces[1:]:
            yield replace(unit, text=piece, space=False)
