"""All entities as a tree of tokens, and the intra-entity position ids that it gives to tokens.

RecSysLLM, section 3.3 ("dynamic position"): while the tokens since the last restart begin an
entity, ids count up; otherwise they start at 1 again. Ids depend on the tokens alone, so that
training (:meth:`Automaton.number`, all tokens at once) and inference (:meth:`Automaton.step`, one
token of every beam) agree by construction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.errors import DataError
from legos.systems.recsysllm.settings import PositionSettings
from legos.systems.recsysllm.units import UnitTokenizer
from legos.systems.trie import NOWHERE, ROOT, Slot, Trie, build_trie

START_ID = 1  # of [START]


@dataclass(frozen=True)
class AutomatonState:
    """State of beams in the tree.

    Attributes:
        nodes: int64, any shape: node of the trie, ``ROOT`` after [START], ``NOWHERE`` after a plain
            token.
        counts: int64, the same shape: id of the last token.
    """

    nodes: Tensor
    counts: Tensor

    def select(self, beams: Tensor) -> AutomatonState:
        """Select beams, ``(n,)`` int64, in this order."""
        return AutomatonState(self.nodes[beams], self.counts[beams])


@dataclass(frozen=True)
class Automaton:
    """Numbers tokens by a trie of every surface of every entity, in ``settings.intra_mode``."""

    trie: Trie
    settings: PositionSettings

    def to(self, device: torch.device | str) -> Automaton:
        """The same on another device."""
        return Automaton(self.trie.to(device), self.settings)

    def start(self, shape: tuple[int, ...]) -> AutomatonState:
        """Initial states of beams after [START], whose id is 1."""
        nodes = torch.full(shape, ROOT, dtype=torch.int64, device=self.trie.tokens.device)
        return AutomatonState(nodes, torch.full_like(nodes, START_ID))

    def step(self, state: AutomatonState, tokens: Tensor) -> AutomatonState:
        """Advance every beam by one token; ``counts`` become the position ids of the tokens.

        The first unit counts on from its [START]. What began like an entity and is none keeps its
        ids.
        """
        mode, fresh = self.settings.intra_mode, state.nodes == ROOT
        deeper = self.trie.step(state.nodes, tokens)
        grows = deeper != NOWHERE
        nodes = deeper.where(grows, self.trie.step(torch.zeros_like(state.nodes), tokens))
        more = state.counts + 1
        counts_on = grows
        if mode == "run":
            counts_on = grows | ((state.nodes == NOWHERE) & (nodes == NOWHERE))
        elif mode == "glm":
            counts_on = ~fresh
        counts = more.where(counts_on | fresh, torch.ones_like(more))
        return AutomatonState(nodes, counts)

    def number(self, blanks: Ragged) -> Tensor:
        """Position ids of the tokens of S blanks, without [START]: ``(P,)`` int64."""
        if self.settings.intra_mode == "glm" or not blanks.values.numel():
            return blanks.positions + START_ID + 1
        index = torch.arange(len(blanks.values), device=blanks.values.device)
        _, lengths = self.trie.follow(blanks.values, index, blanks.to_end)  # of an entity from here
        starts = _reached(blanks, lengths.clamp(min=1))  # (P,) bool: a unit begins here
        first = blanks.positions == 0
        if self.settings.intra_mode == "run":
            plain = (lengths == 0) & starts
            after_plain = torch.cat([plain.new_zeros(1), plain[:-1]])
            starts = starts & ~(plain & after_plain & ~first)
        begin = torch.cummax(index.where(starts, torch.zeros_like(index)), 0).values
        return index - begin + 1 + first[begin]


def _reached(blanks: Ragged, steps: Tensor) -> Tensor:
    """Tokens that are reached from the first of their blank by steps of given lengths.

    Pointers are doubled: a blank of n tokens takes log2(n) rounds.
    """
    count = len(steps)
    index = torch.arange(count, device=steps.device)
    jump = (index + steps).where(steps < blanks.to_end, torch.full_like(index, count))
    jump = torch.cat([jump, jump.new_full((1,), count)])  # one token behind all: nowhere
    reached = torch.zeros(count + 1, dtype=torch.bool, device=steps.device)
    reached[:-1] = blanks.positions == 0
    for _ in range(max(1, int(blanks.lengths.max())).bit_length()):
        reached[jump[reached]] = True
        jump = jump[jump]
    return reached[:-1]


class EntityPool:
    """All entities of all types, each with and without a blank before it.

    Args:
        texts: of each entity type, the texts of its entities by number.

    Attributes:
        sequences: the token sequences of all entities, first without a blank, then with one.

    Raises:
        DataError: an entity has no text.
    """

    def __init__(self, tokenizer: UnitTokenizer, texts: Mapping[str, Sequence[str]]) -> None:
        self._numbers: dict[str, Tensor] = {}  # of the entities of a type among all
        clean: list[str] = []
        for name, names in texts.items():
            own = [" ".join(text.split()) for text in names]
            if "" in own:
                raise DataError(f"{name} {own.index('')}: an entity without text")
            self._numbers[name] = torch.arange(len(clean), len(clean) + len(own))
            clean += own
        self.sequences = tokenizer.encode_names(clean)

    def trie(self) -> Trie:
        """The tree of all surfaces of all types, for the automaton."""
        return build_trie(self.sequences)

    def slot(self, entity_type: str, *, space: bool, keys: Tensor | None = None) -> Slot:
        """The valid answers of a blank for an entity of a type: one surface each.

        ``space``: a blank stands before it there; ``keys`` ``(n,)`` int64: which ones, None: all.
        """
        keys = torch.arange(len(self._numbers[entity_type])) if keys is None else keys
        return Slot(build_trie(self.surfaces(entity_type, keys, space=space)), keys)

    def surfaces(self, entity_type: str, keys: Tensor, *, space: bool) -> Ragged:
        """Token sequences of entities by number: ``(n,)`` int64 -> n rows, in this order."""
        return self.sequences.select(2 * self._numbers[entity_type][keys] + space)

    def longest(self, entity_type: str) -> int:
        """Maximum tokens of an entity of a type."""
        numbers = self._numbers[entity_type]
        return int(self.sequences.select(torch.cat([2 * numbers, 2 * numbers + 1])).lengths.max())

    def describe(self) -> str:
        """Describe the entities: their number, lengths, and how many are spelled the same."""
        lengths = self.sequences.lengths
        entities = torch.arange(len(lengths)) // 2
        pairs = torch.stack([self.trie().find(self.sequences), entities], 1).unique(dim=0)
        shared = int((torch.bincount(pairs[:, 0]) > 1).sum())
        return (
            f"{len(lengths) // 2:,} of {lengths.min()} to {lengths.max()} tokens, mean "
            f"{float(lengths.double().mean()):.1f}; {shared:,} surfaces shared"
        )
