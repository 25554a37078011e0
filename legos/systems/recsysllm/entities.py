"""The pool of entities: every surface in which a template may show them, as token sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.errors import ConfigError, DataError, nearest
from legos.systems.recsysllm.automaton import Trie, build_trie
from legos.systems.recsysllm.units import UnitTokenizer


class EntityPool:
    """All entities of all types.

    Args:
        tokenizer: of the backbone.
        texts: of each entity type, the texts of its entities by number.

    Attributes:
        sequences: S rows of tokens: every entity with and without a blank before it.
        types: ``(S,)`` int64 row of ``type_names``.
        keys: ``(S,)`` int64 number of the entity among its type.
        spaces: ``(S,)`` bool: with a blank before it.

    Raises:
        DataError: an entity has no text or no token.
        ConfigError: the tokenizer does not know a type.
    """

    def __init__(self, tokenizer: UnitTokenizer, texts: Mapping[str, Sequence[str]]) -> None:
        self.type_names = tokenizer.type_names
        unknown = [name for name in texts if name not in self.type_names]
        if unknown:
            raise ConfigError(f"entity type {unknown[0]!r}; {nearest(unknown[0], self.type_names)}")
        clean = [" ".join(text.split()) for names in texts.values() for text in names]
        types = [self.type_names.index(name) for name, names in texts.items() for _ in names]
        keys = [key for names in texts.values() for key in range(len(names))]
        if "" in clean:
            row = clean.index("")
            raise DataError(f"{self.type_names[types[row]]} {keys[row]}: an entity without text")
        surfaces = [surface for text in clean for surface in (text, " " + text)]
        self.sequences = tokenizer.encode_texts(surfaces)
        self.types = torch.tensor(types, dtype=torch.int64).repeat_interleave(2)
        self.keys = torch.tensor(keys, dtype=torch.int64).repeat_interleave(2)
        self.spaces = torch.tensor([False, True]).repeat(len(clean))

    def trie(self) -> Trie:
        """Of all surfaces of all types, for the automaton."""
        return build_trie(self.sequences)

    def slot(self, entity_type: str, *, space: bool, keys: Tensor | None = None) -> Slot:
        """What may fill a blank that asks for an entity: one surface each.

        Args:
            entity_type: its type.
            space: whether a blank stands before it there.
            keys: ``(n,)`` int64 which entities; all by default.

        Raises:
            ConfigError: there is no such type.
        """
        if entity_type not in self.type_names:
            raise ConfigError(
                f"entity type {entity_type!r}; {nearest(entity_type, self.type_names)}"
            )
        chosen = (self.types == self.type_names.index(entity_type)) & (self.spaces == space)
        if keys is not None:
            chosen &= torch.isin(self.keys, keys)
        rows = chosen.nonzero()[:, 0]
        return Slot(build_trie(self.sequences.select(rows)), self.keys[rows])

    def surfaces(self, entity_type: str, keys: Tensor, *, space: bool) -> Ragged:
        """Token sequences of entities by number: ``(n,)`` int64 -> n rows, in this order.

        Raises:
            DataError: there is no such entity.
        """
        of_type = (self.types == self.type_names.index(entity_type)) & (self.spaces == space)
        rows = of_type.nonzero()[:, 0]  # entity k of a type stands at row k of these
        if keys.numel() and not 0 <= int(keys.min()) <= int(keys.max()) < len(rows):
            raise DataError(f"{entity_type}: numbers 0 to {len(rows) - 1} exist, not all of {keys}")
        return self.sequences.select(rows[keys])

    def describe(self) -> str:
        """How many entities there are, how long they are and how many look the same."""
        lengths = self.sequences.lengths
        entity = self.types * (int(self.keys.max()) + 1 if self.keys.numel() else 1) + self.keys
        pairs = torch.stack([self.trie().find(self.sequences), entity], 1).unique(dim=0)
        shared = int((torch.bincount(pairs[:, 0]) > 1).sum())
        return (
            f"{entity.unique().numel():,} of {lengths.min()} to {lengths.max()} tokens, mean "
            f"{float(lengths.double().mean()):.1f}; {shared:,} surfaces shared"
        )


@dataclass(frozen=True)
class Slot:
    """The valid answers of a blank.

    Attributes:
        trie: of one surface of each; what ends at a node are rows of ``keys``.
        keys: ``(n,)`` int64 numbers of entities.
    """

    trie: Trie
    keys: Tensor

    def to(self, device: torch.device | str) -> Slot:
        """The same on another device."""
        return Slot(self.trie.to(device), self.keys.to(device))

    def entities(self, nodes: Tensor) -> Ragged:
        """The entities that end at nodes, ``(n,)`` int64: n rows of keys, mostly one each."""
        rows = self.trie.ends.select(nodes)
        return Ragged(self.keys[rows.values], rows.offsets)
