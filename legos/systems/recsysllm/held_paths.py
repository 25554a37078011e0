"""Keys and values of what a search has read behind its prompts, in bounded memory.

A user is a row of the cache. What is read of its tree of entities stands in columns behind the
prompt, each token once; a token's path names the columns of what leads to it, and the mask shows it
these alone, so that nothing is copied when a search goes on from any of them. Columns that no open
node needs go; where too many are left, those of the least likely open nodes go too, and their paths
are read again when their turn comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from legos.data.ragged import Ragged, aranges, from_lengths
from legos.systems.recsysllm.automaton import ROOT, Automaton, AutomatonState, Slot
from legos.systems.recsysllm.backbones.decoder import Backbone
from legos.systems.recsysllm.catalogue_head import CatalogueHead
from legos.systems.recsysllm.decoding import ReadPrompts, side_by_side
from legos.systems.recsysllm.positions import Inputs

UNREAD = -1  # no token of a node's path is held


@dataclass(frozen=True)
class Segments:
    """n ways through the tree that are read at once, P tokens together.

    Attributes:
        rows: ``(n,)`` int64 row of each, ascending.
        parents: ``(n,)`` int64 what was read last before each, ``UNREAD`` for the root.
        of: ``(P,)`` int64 segment of each token, ascending.
        nodes: ``(P,)`` int64 nodes of the tree; in a segment each is a child of the one before.
    """

    rows: Tensor
    parents: Tensor
    of: Tensor
    nodes: Tensor

    @property
    def lengths(self) -> Tensor:
        """``(n,)`` int64 tokens of each."""
        return torch.bincount(self.of, minlength=len(self.rows))


class Following(NamedTuple):
    """What may follow P tokens that were read.

    Attributes:
        numbers: ``(P,)`` int64 by which further segments go on from them.
        edges: P rows of edges of the tree, Q in all.
        steps: ``(Q,)`` upper bounds of the log-probabilities of their tokens.
        ends: ``(P,)`` of [END].
    """

    numbers: Tensor
    edges: Ragged
    steps: Tensor
    ends: Tensor


class HeldPaths:
    """The cache of R users and which of its columns lead to which token.

    Attributes:
        columns: C behind the prompts.
        taken: ``(G,)`` states of the automaton after every token that is held.
        paths: ``(G, depth + 1)`` int64 columns from [START] to the token, -1 behind it.
        rows: ``(G,)`` int64 row of each.
        states: ``(G, D)`` after every token.
        totals: ``(G,)`` of them, see :meth:`CatalogueHead.following`.
        excess: ``(G,)`` of them, see :meth:`CatalogueHead.excess`; NaN: not asked for yet.
    """

    def __init__(
        self, backbone: Backbone, read: ReadPrompts, slot: Slot, automaton: Automaton
    ) -> None:
        self.backbone, self.slot, self.automaton = backbone, slot, automaton
        self.inter, self.order = read.only_blanks(), read.prompts.prompt_lengths.clone()
        self.cache, self.real = read.cache(), read.real  # (R, A)
        none = self.inter.new_empty(0)
        self.columns, self.rows = 0, none
        self.taken = AutomatonState(none, none)
        self.paths = none.new_empty(0, slot.trie.depth + 1)
        self.head = CatalogueHead(backbone, slot.trie.tokens)
        dtype = next(backbone.parameters()).dtype
        self.states = none.new_empty(0, backbone.width, dtype=dtype)
        self.totals = self.excess = none.new_empty(0, dtype=torch.promote_types(dtype, torch.float))

    def read(self, segments: Segments) -> Following:
        """Read segments and hold them."""
        trie, of, lengths = self.slot.trie, segments.of, segments.lengths
        inside = from_lengths(of, lengths).positions  # (P,)
        own = trie.tokens[(segments.nodes - 1).clamp(min=0)].long() if len(trie.tokens) else of
        tokens = own.masked_fill(segments.nodes == ROOT, self.backbone.special.start)
        before = self._paths_before(segments.parents)  # (n, depth + 1)
        begun = (before >= 0).sum(1)  # (n,)
        taken = self._number(tokens, segments, inside)
        owners = segments.rows[of]
        placed = side_by_side(owners, of, inside, rows=len(self.real))
        rows, width = placed.mask.shape[:2]
        inputs = Inputs(
            placed.column(tokens, self.backbone.special.pad),
            self.inter[:, None].expand(rows, width),
            placed.column(taken.counts, 0),
            placed.column(self.order[owners] + begun[of] + inside, 0),
        )
        prompts = self.real[:, None].expand(-1, width, -1)
        seen = self._seen(before[of], placed.slots, placed.mask.shape[:2])
        mask = torch.cat([prompts, seen, placed.mask], 2)
        states = self.backbone.states(inputs, mask[:, None], self.cache).flatten(0, 1)
        columns = self.columns + placed.slots % width
        at = begun[of] + inside
        whole = before.index_put((of, at), columns)[of]  # the path to the end of each segment
        depths = torch.arange(whole.shape[1], device=whole.device)
        known, self.columns = len(self.rows), self.columns + width
        self.paths = torch.cat([self.paths, whole.masked_fill(depths > at[:, None], -1)])
        self.rows = torch.cat([self.rows, owners])
        self.taken = AutomatonState(
            torch.cat([self.taken.nodes, taken.nodes]), torch.cat([self.taken.counts, taken.counts])
        )
        self.states = torch.cat([self.states, states[placed.slots]])
        return self._following(segments.nodes, known)

    def _following(self, nodes: Tensor, known: int) -> Following:
        """What may follow ``(P,)`` nodes, which were read last: all but ``known`` that are held."""
        trie = self.slot.trie
        first = trie.offsets[nodes].long()
        edges = aranges(first, trie.offsets[nodes + 1].long() - first)
        tokens = trie.tokens.long()[edges.values] if len(trie.tokens) else edges.values
        steps, ends, totals = self.head.following(
            self.states[known:], Ragged(tokens, edges.offsets)
        )
        self.totals = torch.cat([self.totals, totals])
        self.excess = torch.cat([self.excess, torch.full_like(totals, torch.nan)])
        numbers = known + torch.arange(len(nodes), device=nodes.device)
        return Following(numbers, edges, steps, ends)

    def excess_of(self, numbers: Tensor) -> Tensor:
        """By how much bounds of ends after tokens are above log-probabilities: ``(n,)`` both."""
        rows, paths = self.rows[numbers], self.paths[numbers]
        held = (self.rows >= 0).nonzero()[:, 0]
        at = self.rows.new_full((len(self.real), self.columns), -1)
        at[self.rows[held], self._own_columns()[held]] = held
        there = paths >= 0
        on = at[rows[:, None], paths.clamp(min=0)]  # (n, depth + 1)
        asked = on[there].unique()
        asked = asked[self.excess[asked].isnan()]
        self.excess[asked] = self.head.excess(self.states[asked], self.totals[asked])
        return self.excess[on].where(there, self.excess.new_zeros(1)).sum(1)

    def _own_columns(self) -> Tensor:
        """``(G,)`` column of every token that is held."""
        return self.paths.gather(1, (self.paths >= 0).sum(1, keepdim=True) - 1)[:, 0]

    def _paths_before(self, parents: Tensor) -> Tensor:
        """``(n, depth + 1)`` columns that lead to segments."""
        if not len(self.paths):
            return self.paths.new_full((len(parents), self.paths.shape[1]), -1)
        paths = self.paths[parents.clamp(min=0)]
        return paths.masked_fill((parents == UNREAD)[:, None], -1)

    def _seen(self, before: Tensor, slots: Tensor, shape: torch.Size) -> Tensor:
        """Which held columns ``(R, W, C)`` bool the tokens in these slots see."""
        columns = before.masked_fill(before < 0, self.columns)  # one behind all takes what is none
        own = self.real.new_zeros(len(slots), self.columns + 1).scatter_(1, columns, True)
        seen = self.real.new_zeros(shape.numel(), self.columns)
        return seen.index_copy_(0, slots, own[:, :-1]).view(*shape, -1)

    def _number(self, tokens: Tensor, segments: Segments, inside: Tensor) -> AutomatonState:
        """States of the automaton after each of ``(P,)`` tokens."""
        lengths = segments.lengths
        first = lengths.cumsum(0) - lengths
        state = self.automaton.start((len(lengths),))
        held = segments.parents >= 0
        state.nodes[held] = self.taken.nodes[segments.parents[held]]
        state.counts[held] = self.taken.counts[segments.parents[held]]
        nodes, counts = torch.empty_like(tokens), torch.empty_like(tokens)
        for step in range(int(lengths.max())):
            going = lengths > step
            at = first[going] + step
            own = state.select(going.nonzero()[:, 0])
            new = self.automaton.step(own, tokens[at])
            begins = segments.nodes[at] == ROOT  # [START] itself
            nodes[at] = own.nodes.where(begins, new.nodes)
            counts[at] = own.counts.where(begins, new.counts)
            state.nodes[going], state.counts[going] = nodes[at], counts[at]
        return AutomatonState(nodes, counts)

    def keep_rows(self, kept: Tensor) -> Tensor:
        """Forget all rows but ``(m,)`` int64, ascending; the new row of each old one, -1: none."""
        place = torch.full((len(self.real),), -1, device=kept.device)
        place[kept] = torch.arange(len(kept), device=kept.device)
        self.cache.batch_select_indices(kept)
        self.real, self.inter, self.order = self.real[kept], self.inter[kept], self.order[kept]
        self.rows = place[self.rows]
        return place

    def keep_paths(self, parents: Tensor, most: int) -> Tensor:
        """Forget what is on no path to open nodes, and the least likely ones beyond ``most``.

        Args:
            parents: ``(n,)`` int64 what was read last before open nodes, those of a row the most
                likely first; all of them are of rows that are held.
            most: columns a row.

        Returns:
            the same by their new numbers, ``UNREAD`` where their paths are forgotten.
        """
        rows, count = len(self.real), len(parents)
        turn = torch.full((rows * self.columns + 1,), count, device=parents.device)
        held = (parents >= 0).nonzero()[:, 0]
        paths = self.paths[parents[held]]
        place = (self.rows[parents[held], None] * self.columns + paths).masked_fill(
            paths < 0, rows * self.columns
        )
        turns = held[:, None].expand_as(place)
        turn.scatter_reduce_(0, place.flatten(), turns.flatten(), "amin")
        turn = turn[:-1].view(rows, self.columns)  # when each column is needed first
        if self.columns > most:
            last = turn.sort(1).values[:, most]  # columns of one node are forgotten together
            turn = turn.masked_fill(turn >= last[:, None], count)
        kept = turn < count
        width = int(kept.sum(1).max()) if rows else 0
        chosen = (~kept).byte().argsort(dim=1, stable=True)[:, :width]  # kept ones in their order
        self._move_columns(chosen)
        moved = torch.full((rows, self.columns + 1), -1, device=parents.device)
        moved[:, :-1].masked_scatter_(kept, (kept.cumsum(1) - 1)[kept])
        self.columns = width
        left = kept[self.rows, self._own_columns()] & (self.rows >= 0)
        renumbered = torch.full((len(self.rows),), UNREAD, device=parents.device)
        renumbered[left] = torch.arange(int(left.sum()), device=parents.device)
        self.rows = self.rows[left]
        self.paths = moved[self.rows[:, None], self.paths[left]]
        self.taken = AutomatonState(self.taken.nodes[left], self.taken.counts[left])
        self.states, self.totals = self.states[left], self.totals[left]
        self.excess = self.excess[left]
        new = parents.clone()
        new[held] = renumbered[parents[held]]
        return new

    def _move_columns(self, chosen: Tensor) -> None:
        """Make the cache hold the prompts and columns ``(R, C')`` int64 of each row."""
        length = self.real.shape[1]
        for layer in self.cache.layers:
            for name in ("keys", "values"):
                held = getattr(layer, name)  # (R, heads, A + C, d)
                at = chosen[:, None, :, None].expand(-1, held.shape[1], -1, held.shape[3])
                moved = held[:, :, length:].gather(2, at)
                setattr(layer, name, torch.cat([held[:, :, :length], moved], 2))
