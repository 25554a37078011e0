"""Text as units: what is said in words, and entities that must stay whole.

RecSysLLM, section 3.1. Every unit is tokenized by itself, never the joined text: a tokenizer may
merge the end of an entity with what follows (GPT-2 makes ``),`` of a title's ``)`` and a comma).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from legos.data.ragged import Ragged, from_rows, join_rows, stack
from legos.errors import DataError
from legos.lm.tokenizer import literal_copy, token_ids

Kind = Literal["plain", "entity"]
NEVER_DROPPED = -1
_CLOSING = "\"')]}»”’"
_OF_UNITS = ("is_entity", "ends_sentence", "types", "keys", "events")  # columns of documents
_QUOTES = f"[{re.escape(_CLOSING)}]*"
_SENTENCE_END = re.compile(rf"[.?!;…]{_QUOTES}(?=\s)\n*|[。？！；]{_QUOTES}\n*|\n+")
_ENDS = tuple(".?!;…。？！；\n")


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of text that is tokenized by itself.

    Attributes:
        text: without a blank before it.
        kind: ``entity``: never split by a mask; its tokens are numbered.
        entity_type: of an entity: item, brand, user, ...
        key: of an entity: its number among those of its type, -1 if it has none.
        space: whether a blank stands before it.
        event: which event of the user's past it tells of, the oldest 0, or behind these which
            candidate; where a document is too long events are dropped whole, the lowest first.
            ``NEVER_DROPPED``: none.
    """

    text: str
    kind: Kind = "plain"
    entity_type: str = ""
    key: int = -1
    space: bool = True
    event: int = NEVER_DROPPED

    @property
    def surface(self) -> str:
        """The text as it is tokenized."""
        return " " + self.text if self.space else self.text


@dataclass(frozen=True)
class Documents:
    """N documents of U units in all, as columns.

    Attributes:
        units: U rows of token ids (int32).
        offsets: ``(N + 1,)`` int64; document n owns the units ``offsets[n]:offsets[n + 1]``.
        is_entity: ``(U,)`` bool.
        ends_sentence: ``(U,)`` bool: a plain unit after which a sentence is over.
        types: ``(U,)`` int64 rows of ``type_names``, -1 for plain units.
        keys: ``(U,)`` int64 number of an entity among its type, else -1.
        events: ``(U,)`` int64, see :class:`Unit`.
        type_names: entity types.
    """

    units: Ragged
    offsets: Tensor
    is_entity: Tensor
    ends_sentence: Tensor
    types: Tensor
    keys: Tensor
    events: Tensor
    type_names: tuple[str, ...]

    def __len__(self) -> int:
        return self.offsets.numel() - 1

    @property
    def tokens(self) -> Ragged:
        """N rows of token ids."""
        return self.units.grouped(self.offsets)

    @property
    def token_units(self) -> Tensor:
        """``(P,)`` int64: the unit each token belongs to."""
        return self.units.rows

    def select(self, index: Tensor) -> Documents:
        """Documents by number, ``(M,)`` int64, in this order."""
        chosen = Ragged(torch.arange(len(self.units)), self.offsets).select(index)
        return self._keep(chosen.values, chosen.offsets)

    def followed_by(self, other: Documents) -> Documents:
        """Every document with the units of the same document of ``other`` after its own.

        Raises:
            DataError: other numbers of documents or other entity types.
        """
        if len(self) != len(other) or self.type_names != other.type_names:
            raise DataError(
                f"{len(self)} documents of {self.type_names} cannot go before {len(other)} of "
                f"{other.type_names}"
            )
        columns: dict[str, Any] = {
            name: torch.cat([getattr(self, name), getattr(other, name)]) for name in _OF_UNITS
        }
        both = replace(self, units=stack([self.units, other.units]), **columns)
        own, others = torch.arange(len(both.units)).split([len(self.units), len(other.units)])
        order = join_rows([Ragged(own, self.offsets), Ragged(others, other.offsets)])
        return both._keep(order.values, order.offsets)

    def truncated(self, max_tokens: int) -> Documents:
        """At most so many tokens a document: the oldest events go first, each with all its units.

        If that is not enough, the longest plain units lose their ends. Entities are never cut.

        Raises:
            DataError: what may not be dropped is longer than that.
        """
        lengths = self.tokens.lengths
        if not bool((lengths > max_tokens).any()):
            return self
        keep = torch.ones(len(self.units), dtype=torch.bool)
        heads = self.units.lengths.clone()  # tokens a unit keeps
        for row in (lengths > max_tokens).nonzero()[:, 0].tolist():
            self._shorten(row, max_tokens, keep, heads)
        kept = Ragged(torch.arange(len(self.units)), self.offsets).keep(keep)
        whole = heads == self.units.lengths
        cut = replace(self, units=self.units.head(heads), ends_sentence=self.ends_sentence & whole)
        return cut._keep(kept.values, kept.offsets)

    def _shorten(self, row: int, max_tokens: int, keep: Tensor, heads: Tensor) -> None:
        units = torch.arange(int(self.offsets[row]), int(self.offsets[row + 1]))
        too_many = int(heads[units].sum()) - max_tokens
        events = self.events[units]
        for event in events[events != NEVER_DROPPED].unique().tolist():
            if too_many <= 0:
                return
            of_event = units[events == event]
            keep[of_event] = False
            too_many -= int(heads[of_event].sum())
        plain = units[keep[units] & ~self.is_entity[units]]
        for unit in plain[heads[plain].argsort(descending=True)].tolist():
            if too_many <= 0:
                return
            gone = min(too_many, int(heads[unit]) - 1)
            heads[unit] -= gone
            too_many -= gone
        if too_many > 0:
            raise DataError(
                f"document {row}: {max_tokens + too_many} tokens that may not be dropped, expected "
                f"at most {max_tokens}; entities are never cut (raise max_tokens)"
            )

    def _keep(self, index: Tensor, offsets: Tensor) -> Documents:
        columns: dict[str, Any] = {name: getattr(self, name)[index] for name in _OF_UNITS}
        return replace(self, units=self.units.select(index), offsets=offsets, **columns)


class UnitTokenizer:
    """Units as token ids, each tokenized alone; entities once for all.

    Args:
        base: of the language model; it is left as it is.
        type_names: entity types that units may have.
    """

    def __init__(self, base: Tokenizer, type_names: Sequence[str]) -> None:
        self.fast = literal_copy(base)
        self.type_names = tuple(type_names)
        self._type_rows = {name: row for row, name in enumerate(self.type_names)}
        self._entities: dict[str, np.ndarray] = {}

    def encode_texts(self, texts: Sequence[str]) -> Ragged:
        """Token ids of texts, each alone: int32."""
        return from_rows(token_ids(self.fast, texts), "int32").tensors()

    def encode(self, documents: Sequence[Sequence[Unit]]) -> Documents:
        """Documents as columns; a plain unit of several sentences becomes several units.

        Raises:
            DataError: an entity has no text, no token, or an unknown type.
        """
        units: list[Unit] = []
        counts = np.zeros(len(documents) + 1, dtype=np.int64)
        for row, document in enumerate(documents):
            units.extend(_split_sentences(document))
            counts[row + 1] = len(units)
        known = self._type_rows
        for unit in units:
            if unit.kind == "entity" and (not unit.text.strip() or unit.entity_type not in known):
                raise DataError(
                    f"entity {unit.text!r} of type {unit.entity_type!r}: expected a text and one "
                    f"of the types {', '.join(self.type_names)}"
                )
        ends = [unit.kind == "plain" and _ends_sentence(unit.text) for unit in units]
        return Documents(
            units=from_rows(self._rows(units), "int32").tensors(),
            offsets=torch.from_numpy(counts),
            is_entity=torch.tensor([unit.kind == "entity" for unit in units], dtype=torch.bool),
            ends_sentence=torch.tensor(ends, dtype=torch.bool),
            types=_column(known[u.entity_type] if u.kind == "entity" else -1 for u in units),
            keys=_column(unit.key if unit.kind == "entity" else -1 for unit in units),
            events=_column(unit.event for unit in units),
            type_names=self.type_names,
        )

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        text: str = self.fast.decode(list(ids), skip_special_tokens=False)
        return text

    def _rows(self, units: Sequence[Unit]) -> list[np.ndarray]:
        """Token ids of each unit; every surface is tokenized once a call, entities once."""
        wanted = dict.fromkeys(unit.surface for unit in units)
        new = [surface for surface in wanted if surface not in self._entities]
        found = dict(zip(new, token_ids(self.fast, new), strict=True))
        for unit in units:
            if unit.kind == "entity" and unit.surface in found:
                self._entities[unit.surface] = found[unit.surface]
        rows = []
        for unit in units:
            ids = found.get(unit.surface)
            rows.append(self._entities[unit.surface] if ids is None else ids)
            if unit.kind == "entity" and not len(rows[-1]):
                raise DataError(f"entity {unit.text!r}: the tokenizer makes no token of it")
        return rows


def sentences(text: str) -> list[str]:
    """A text cut after each end of a sentence (``. ? ! ;`` before a blank, and their kin).

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
        pieces = sentences(unit.text) if unit.kind == "plain" else [unit.text]
        if len(pieces) < 2:
            yield unit
            continue
        yield replace(unit, text=pieces[0])
        for piece in pieces[1:]:
            yield replace(unit, text=piece, space=False)


def _column(values: Iterable[int]) -> Tensor:
    return torch.from_numpy(np.fromiter(values, np.int64))


@dataclass(frozen=True)
class Textualizer:
    """Writes units.

    Two entities never touch: a plain separator stands between them, so that no other pair of
    entities could be read out of their tokens.

    Attributes:
        separator: between entities, such as events.
    """

    separator: str = ","

    def events(self, events: Sequence[tuple[str, str, int]]) -> list[Unit]:
        """Entities of a past in order, each followed by a separator that is dropped with it.

        Args:
            events: (text, type, key), the oldest first.
        """
        units: list[Unit] = []
        for number, (text, kind, key) in enumerate(events):
            units.append(replace(entity(text, kind, key), event=number))
            if number < len(events) - 1:
                units.append(Unit(self.separator, space=False, event=number))
        return units

    def document(self, parts: Iterable[Sequence[Unit]]) -> list[Unit]:
        """Parts one after the other; a separator is put between entities that would touch.

        The first unit has no blank before it.
        """
        units: list[Unit] = []
        for unit in (unit for part in parts for unit in part):
            if units and units[-1].kind == unit.kind == "entity":
                units.append(Unit(self.separator, space=False, event=units[-1].event))
            units.append(unit)
        if units:
            units[0] = replace(units[0], space=False)
        return units


def plain(text: str, *, space: bool = True) -> Unit:
    """Words; blanks at both ends go.

    Raises:
        DataError: nothing is left.
    """
    if not text.strip():
        raise DataError("a plain unit without text")
    return Unit(text.strip(), space=space)


def entity(text: str, entity_type: str, key: int = -1, *, space: bool = True) -> Unit:
    """An entity; blanks at both ends go, runs of blanks inside become one.

    Raises:
        DataError: nothing is left.
    """
    clean = " ".join(text.split())
    if not clean:
        raise DataError(f"{entity_type} {key}: an entity without text")
    return Unit(clean, "entity", entity_type, key, space, NEVER_DROPPED)
