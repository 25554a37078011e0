"""Keys and values of the tokens that a search has read after prompts, in bounded memory.

A token that was read is held once, apart from its prompt; the path of a token numbers what leads to
it. A wave is read in short rows: before the tokens of a row stand the prompt of its user and the
held tokens that lead to them, and nothing else, so that a token costs what its own path costs,
however much is held. What no open node needs is forgotten; where too much is left, so is what
leads to the least likely open nodes, which is read again in its turn.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from legos.data.ragged import Ragged, aranges, from_lengths
from legos.systems.exact_search import (
    UNREAD,
    Following,
    Found,
    SearchWork,
    Segments,
    find_best,
)
from legos.systems.recsysllm.automaton import Automaton, AutomatonState
from legos.systems.recsysllm.backbones.decoder import Backbone, new_cache
from legos.systems.recsysllm.catalogue_head import CatalogueHead
from legos.systems.recsysllm.decoding import ReadPrompts, SideBySide, side_by_side
from legos.systems.recsysllm.positions import Inputs
from legos.systems.trie import ROOT, Slot

_ROW = 128  # tokens of a row; more where prompts are long, which each row has a copy of


def find_entities(
    backbone: Backbone,
    read: ReadPrompts,
    slot: Slot,
    automaton: Automaton,
    *,
    count: int,
    excluded: Ragged | None = None,
    work: SearchWork | None = None,
) -> Found:
    """The most likely entities for the (single) blank of each prompt.

    Args:
        read: B prompts of one blank each.
        slot: what may be written, on its device.
        count: K.
        excluded: B rows of keys of the slot that are no answers.

    Raises:
        DataError: a prompt has not exactly one blank.
    """
    held = HeldPaths(backbone, read, slot, automaton)
    return find_best(held, count=count, excluded=excluded, work=work)


class _Rows(NamedTuple):
    """R rows of a wave, each with the C held tokens that precede it.

    Attributes:
        of: ``(n,)`` int64 row of each segment, ascending.
        users: ``(R,)`` int64 whose each row is.
        held: ``(R, C)`` int64 numbers, 0 where nothing stands.
        columns: ``(n, depth + 1)`` int64 where in them the path to each segment stands, C behind
            its end.
    """

    of: Tensor
    users: Tensor
    held: Tensor
    columns: Tensor


class HeldPaths:
    """G tokens read after B prompts; see :class:`legos.systems.exact_search.Held`.

    Attributes:
        taken: ``(G,)`` states of the automaton after each.
        paths: ``(G, depth + 1)`` int32 numbers of the tokens from [START] to it, -1 behind it.
        users: ``(G,)`` int64 whose each is.
        states: ``(G, D)`` after each.
        totals: ``(G,)`` of them, see :meth:`CatalogueHead.following`.
        excess: ``(G,)`` of them, see :meth:`CatalogueHead.excess`; NaN: not asked for yet.
    """

    def __init__(
        self, backbone: Backbone, read: ReadPrompts, slot: Slot, automaton: Automaton
    ) -> None:
        self.backbone, self.slot, self.automaton = backbone, slot, automaton
        self.inter, self.order = read.only_blanks(), read.prompts.prompt_lengths
        self.real = read.real  # (B, A)
        self._prompts = read.held
        self._size = max(_ROW, self.real.shape[1] // 2)
        self._held = [  # keys and values, layer after layer
            _Buffer(each.transpose(1, 2).new_empty(0, each.shape[1], each.shape[3]))
            for layer in read.held.layers
            for each in (layer.keys, layer.values)
        ]
        none = self.inter.new_empty(0)
        self.users, self.taken = none, AutomatonState(none, none)
        self._paths = _Buffer(none.new_empty(0, slot.trie.depth + 1, dtype=torch.int32))
        self.head = CatalogueHead(backbone, slot.trie.tokens)
        dtype = next(backbone.parameters()).dtype
        self._ends = _Buffer(none.new_empty(0, backbone.width, dtype=dtype))
        self.totals = self.excess = none.new_empty(0, dtype=torch.promote_types(dtype, torch.float))

    @property
    def num_users(self) -> int:
        """B."""
        return len(self.real)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of log-probabilities."""
        return self.totals.dtype

    @property
    def paths(self) -> Tensor:
        """See above."""
        return self._paths.all()

    @property
    def states(self) -> Tensor:
        """See above."""
        return self._ends.all()

    def read(self, segments: Segments) -> Following:
        """Read segments and keep their states."""
        trie, of, lengths = self.slot.trie, segments.of, segments.lengths
        inside = from_lengths(of, lengths).positions  # (P,)
        own = trie.tokens[(segments.nodes - 1).clamp(min=0)].long() if len(trie.tokens) else of
        tokens = own.masked_fill(segments.nodes == ROOT, self.backbone.special.start)
        before = self._paths_before(segments.parents)  # (n, depth + 1)
        begun = (before >= 0).sum(1)  # (n,)
        taken = self._number(tokens, segments, inside)
        rows, owners = self._rows(segments, before), segments.users[of]
        placed = side_by_side(rows.of[of], of, inside, rows=len(rows.users))
        shape = placed.mask.shape[:2]
        inputs = Inputs(
            placed.column(tokens, self.backbone.special.pad),
            self.inter[rows.users, None].expand(shape),
            placed.column(taken.counts, 0),
            placed.column(self.order[owners] + begun[of] + inside, 0),
        )
        states = self._states(inputs, rows, placed, of)
        known, at = len(self.users), begun[of] + inside
        numbers = known + torch.arange(len(of), device=of.device)
        whole = before.index_put((of, at), numbers)[of]  # the path to the end of each segment
        depths = torch.arange(whole.shape[1], device=whole.device)
        self._paths.append(whole.masked_fill(depths > at[:, None], -1))
        self.users = torch.cat([self.users, owners])
        self.taken = AutomatonState(
            torch.cat([self.taken.nodes, taken.nodes]), torch.cat([self.taken.counts, taken.counts])
        )
        self._ends.append(states)
        return self._following(segments.nodes, numbers)

    def _rows(self, segments: Segments, before: Tensor) -> _Rows:
        """Segments in rows of some tokens each; ``before`` are the paths that lead to them."""
        lengths, users = segments.lengths, segments.users
        behind = lengths.cumsum(0) - lengths
        chunk = (behind - behind[torch.searchsorted(users, users)]) // self._size
        keys, of = (users * (int(lengths.sum()) + 1) + chunk).unique(return_inverse=True)
        own = keys // (int(lengths.sum()) + 1)
        there, count = before >= 0, max(1, len(self.users))
        pairs, back = (of[:, None] * count + before)[there].unique(return_inverse=True)
        found = from_lengths(pairs % count, torch.bincount(pairs // count, minlength=len(own)))
        held = before.new_zeros(len(own), int(found.lengths.max()))
        held[found.rows, found.positions] = found.values
        columns = torch.full_like(before, held.shape[1])
        columns[there] = found.positions[back]
        return _Rows(of, own, held, columns)

    def _states(self, inputs: Inputs, rows: _Rows, placed: SideBySide, of: Tensor) -> Tensor:
        """States ``(P, D)`` after tokens, whose keys and values are held from now on."""
        cache, held = new_cache(), rows.held
        for number, layer in enumerate(self._prompts.layers):
            keys, values = self._held[2 * number : 2 * number + 2]
            cache.update(
                _before(layer.keys, keys, rows), _before(layer.values, values, rows), number
            )
        width = placed.mask.shape[1]
        # one column behind all takes what leads nowhere
        seen = self.real.new_zeros(placed.mask.shape[:2].numel(), held.shape[1] + 1)
        seen[placed.slots] = seen[placed.slots].scatter_(1, rows.columns[of], True)
        prompts = self.real[rows.users, None].expand(-1, width, -1)
        mask = torch.cat([prompts, seen[:, :-1].view(*placed.mask.shape[:2], -1), placed.mask], 2)
        states = self.backbone.states(inputs, mask[:, None], cache).flatten(0, 1)
        for number, layer in enumerate(cache.layers):
            for buffer, made in zip(
                self._held[2 * number : 2 * number + 2], (layer.keys, layer.values), strict=True
            ):
                new = made[:, :, -width:].transpose(1, 2).flatten(0, 1)  # (R * W, heads, d)
                buffer.append(new[placed.slots])
        return states[placed.slots]

    def _following(self, nodes: Tensor, numbers: Tensor) -> Following:
        """What may follow ``(P,)`` nodes, which were read last."""
        trie, known = self.slot.trie, len(self.users) - len(nodes)
        first = trie.offsets[nodes].long()
        edges = aranges(first, trie.offsets[nodes + 1].long() - first)
        tokens = trie.tokens.long()[edges.values] if len(trie.tokens) else edges.values
        steps, ends, totals = self.head.following(
            self.states[known:], Ragged(tokens, edges.offsets)
        )
        self.totals = torch.cat([self.totals, totals])
        self.excess = torch.cat([self.excess, torch.full_like(totals, torch.nan)])
        return Following(numbers, edges, steps, ends)

    def excess_of(self, numbers: Tensor) -> Tensor:
        """The excess of bounds over log-probabilities, for ends after tokens: ``(n,)`` both."""
        on = self.paths[numbers].long()  # (n, depth + 1)
        there = on >= 0
        asked = on[there].unique()
        asked = asked[self.excess[asked].isnan()]
        self.excess[asked] = self.head.excess(self.states[asked], self.totals[asked])
        return self.excess[on].where(there, self.excess.new_zeros(1)).sum(1)

    def _paths_before(self, parents: Tensor) -> Tensor:
        """``(n, depth + 1)`` numbers of the tokens that lead to segments."""
        if not len(self.users):
            return parents.new_full((len(parents), self.paths.shape[1]), -1)
        paths = self.paths[parents.clamp(min=0)].long()
        return paths.masked_fill((parents == UNREAD)[:, None], -1)

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

    def keep_paths(self, parents: Tensor, most: int) -> Tensor:
        """See :meth:`legos.systems.exact_search.Held.keep_paths`."""
        count, known = len(parents), len(self.users)
        turn = torch.full((known + 1,), count, device=parents.device)  # when each is needed first
        held = (parents >= 0).nonzero()[:, 0]
        paths = self.paths[parents[held]].long()
        turns = held[:, None].expand_as(paths)
        places = paths.masked_fill(paths < 0, known).flatten()
        turn.scatter_reduce_(0, places, turns.flatten(), "amin")
        turn = turn[:-1]
        order = turn.argsort(stable=True)
        order = order[self.users[order].argsort(stable=True)]
        counts = torch.bincount(self.users, minlength=len(self.real))
        over = counts > most
        last = torch.full_like(counts, count)  # tokens of one node are forgotten together
        last[over] = turn[order[(counts.cumsum(0) - counts + most)[over]]]
        kept = (turn < last[self.users]).nonzero()[:, 0]
        renumbered = torch.full((known + 1,), UNREAD, device=parents.device)
        renumbered[kept] = torch.arange(len(kept), device=parents.device)
        self._paths = _Buffer(renumbered[self.paths[kept].long()].int())  # -1 is never kept
        self.users, self.taken = self.users[kept], self.taken.select(kept)
        self.totals, self.excess = self.totals[kept], self.excess[kept]
        for buffer in [self._ends, *self._held]:
            buffer.keep(kept)
        return renumbered[parents]


def _before(prompts: Tensor, buffer: _Buffer, rows: _Rows) -> Tensor:
    """Keys or values ``(R, heads, A + C, d)`` of prompts and of held tokens before rows."""
    length, (_, count) = prompts.shape[2], rows.held.shape
    shape = (len(rows.users), prompts.shape[1], length + count, prompts.shape[3])
    found = prompts.new_empty(shape)
    found[:, :, :length] = prompts[rows.users]
    if count:
        found[:, :, length:] = buffer.all()[rows.held].transpose(1, 2)
    return found


class _Buffer:
    """A growing buffer of rows that is rarely copied."""

    def __init__(self, first: Tensor) -> None:
        self._rows, self._count = first, len(first)

    def append(self, rows: Tensor) -> None:
        """``(n, ...)`` further rows."""
        count = self._count + len(rows)
        if count > len(self._rows):
            more = rows.new_empty(2 * count, *rows.shape[1:])
            more[: self._count] = self.all()
            self._rows = more
        self._rows[self._count : count] = rows
        self._count = count

    def all(self) -> Tensor:
        """The rows; they may be written to."""
        return self._rows[: self._count]

    def keep(self, numbers: Tensor) -> None:
        """Forget all other rows."""
        self._rows, self._count = self._rows[numbers], len(numbers)
