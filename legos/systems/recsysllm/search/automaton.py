"""Intra-entity position ids of generated tokens: what the trie of all entities makes of them.

RecSysLLM, section 3.3 ("dynamic position"): while the tokens since the last restart are the
beginning of an entity, ids count up; otherwise they start at 1 again. Ids depend on the tokens
alone, so that training (:meth:`Automaton.number`, all tokens at once) and inference
(:meth:`Automaton.step`, one token of every beam) agree by construction.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.systems.recsysllm.search.trie import NOWHERE, ROOT, Trie
from legos.systems.recsysllm.settings import PositionSettings

START_ID = 1  # of [START]


@dataclass(frozen=True)
class AutomatonState:
    """Where beams stand.

    Attributes:
        nodes: int64, any shape: node of the trie, ``NOWHERE`` after a plain token.
        counts: int64, the same shape: id of the last token.
        fresh: bool, the same shape: the last token was [START].
    """

    nodes: Tensor
    counts: Tensor
    fresh: Tensor

    def select(self, beams: Tensor) -> AutomatonState:
        """The states of these beams, ``(n,)`` int64, in this order."""
        return AutomatonState(self.nodes[beams], self.counts[beams], self.fresh[beams])


class Automaton:
    """Numbers tokens.

    Args:
        trie: of every surface of every entity.
        settings: ``intra_mode``, ``first_offset`` and ``dead_prefix`` count.
    """

    def __init__(self, trie: Trie, settings: PositionSettings) -> None:
        self.trie, self.settings = trie, settings

    def to(self, device: torch.device | str) -> Automaton:
        """The same on another device."""
        return Automaton(self.trie.to(device), self.settings)

    def start(self, shape: tuple[int, ...]) -> AutomatonState:
        """Beams that were just fed [START], whose id is 1."""
        device = self.trie.device
        return AutomatonState(
            torch.full(shape, ROOT, dtype=torch.int64, device=device),
            torch.full(shape, START_ID, dtype=torch.int64, device=device),
            torch.ones(shape, dtype=torch.bool, device=device),
        )

    def step(self, state: AutomatonState, tokens: Tensor) -> AutomatonState:
        """After one more token a beam; ``counts`` are then the ids the tokens are fed with.

        Dead prefixes are committed: :mod:`legos.systems.recsysllm.positions.filling` rolls back.

        Args:
            state: of any shape.
            tokens: int64, the same shape.
        """
        mode, fresh = self.settings.intra_mode, state.fresh
        deeper = self.trie.step(state.nodes, tokens)  # a fresh beam stands at the root
        grows = deeper != NOWHERE
        anew = self.trie.step(torch.zeros_like(state.nodes), tokens)
        nodes = deeper.where(grows, anew)
        more = state.counts + 1
        counts_on = grows
        if mode == "run":
            was_plain = state.nodes == NOWHERE
            counts_on = grows | (was_plain & (nodes == NOWHERE))
        elif mode == "glm":
            counts_on = ~fresh
        first = START_ID + 1 if self.settings.first_offset or mode == "glm" else START_ID
        counts = more.where(counts_on, torch.ones_like(more))
        counts = torch.full_like(counts, first).where(fresh, counts)
        return AutomatonState(nodes, counts, torch.zeros_like(fresh))

    def number(self, blanks: Ragged, *, open_end: bool = False) -> Tensor:
        """Ids of the tokens of blanks, without their [START]; no loop over tokens.

        Args:
            blanks: S rows of token ids.
            open_end: the last tokens may still become an entity (only where dead prefixes are
                rolled back): they are numbered as one.

        Returns:
            ``(P,)`` int64.
        """
        if self.settings.intra_mode == "glm" or not blanks.values.numel():
            return blanks.positions + START_ID + 1
        lengths = self._matches(blanks, open_end)  # (P,) tokens of the entity that begins there
        starts = _reached(blanks, lengths.clamp(min=1))  # (P,) bool: a unit begins here
        return number_units(blanks, starts, lengths == 0, self.settings)

    def _matches(self, blanks: Ragged, open_end: bool) -> Tensor:
        """How far the trie can be followed from each token, without leaving the blank."""
        values = blanks.values.long()
        remaining = blanks.to_end
        active = torch.arange(len(values), device=values.device)
        nodes = torch.zeros_like(values)
        lengths = torch.zeros_like(values)
        rollback = self.settings.dead_prefix == "rollback"
        for depth in range(self.trie.depth):
            active = active[remaining[active] > depth]
            nodes[active] = self.trie.step(nodes[active], values[active + depth])
            active = active[nodes[active] != NOWHERE]
            if not len(active):
                break
            counts = active
            if rollback:
                whole = self.trie.is_end(nodes[active])
                if open_end:  # what has not died yet
                    inner = self.trie.offsets[1:] > self.trie.offsets[:-1]
                    whole |= (remaining[active] == depth + 1) & inner[nodes[active]]
                counts = active[whole]
            lengths[counts] = depth + 1
        return lengths


def number_units(
    blanks: Ragged, starts: Tensor, plain: Tensor, settings: PositionSettings
) -> Tensor:
    """Ids of the tokens of blanks whose units are known, in the modes ``paper`` and ``run``.

    Args:
        blanks: S rows of tokens.
        starts: ``(P,)`` bool: an entity or a plain token begins here.
        plain: ``(P,)`` bool, looked at where a unit begins: it is a plain token.
        settings: ``intra_mode`` and ``first_offset`` count.

    Returns:
        ``(P,)`` int64.
    """
    place = torch.arange(len(starts), device=starts.device)
    first = blanks.positions == 0
    if settings.intra_mode == "run":
        plain = plain & starts
        after_plain = torch.cat([plain.new_zeros(1), plain[:-1]])
        starts = starts & ~(plain & after_plain & ~first)
    begin = torch.cummax(place.where(starts, torch.zeros_like(place)), 0).values
    ids = place - begin + 1
    if settings.first_offset:
        ids = ids + first[begin]
    return ids


def _reached(blanks: Ragged, steps: Tensor) -> Tensor:
    """Which tokens are reached from the first of their blank by steps of given lengths.

    Pointers are doubled: a blank of n tokens takes log2(n) rounds.
    """
    count = len(steps)
    place = torch.arange(count, device=steps.device)
    jump = (place + steps).where(
        steps < blanks.to_end, torch.full_like(place, count)
    )  # one place behind all: nowhere
    jump = torch.cat([jump, jump.new_full((1,), count)])
    reached = torch.zeros(count + 1, dtype=torch.bool, device=steps.device)
    reached[:-1] = blanks.positions == 0
    for _ in range(max(1, int(blanks.lengths.max())).bit_length()):
        reached[jump[reached]] = True
        jump = jump[jump]
    return reached[:-1]
