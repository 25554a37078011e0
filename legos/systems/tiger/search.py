"""Decoder states of the exact search through the tree of all items' codes.

See :mod:`legos.systems.exact_search`. Keys and values of what was written are held, so that a
node costs one token; nothing is read at a leaf, whose log-probability is known before.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from legos.blocks.packed import gather
from legos.data.ragged import Ragged, aranges, from_lengths
from legos.systems.exact_search import UNREAD, Following, Segments
from legos.systems.tiger.layers import DecoderLayer, Keys, Memory
from legos.systems.tiger.model import Tiger, tree_of
from legos.systems.trie import Slot


class ItemTree(NamedTuple):
    """The tree of the tuples of recommendable items.

    Attributes:
        slot: tuples by the numbers of the items.
        depths: ``(M,)`` int64 codes before each node.
        whole: ``(M,)`` int64 each node in the tree of all items.
    """

    slot: Slot
    depths: Tensor
    whole: Tensor

    @classmethod
    def of(cls, model: Tiger, items: Tensor) -> ItemTree:
        """Build the tree of items ``(n,)`` int64, ascending."""
        trie = tree_of(model.codes[items])
        depths, whole = (torch.zeros(trie.num_nodes, dtype=torch.int64) for _ in range(2))
        every, begin, end = model.tree.to("cpu"), 0, 1
        for depth in range(trie.depth + 1):
            depths[begin:end] = depth
            first, last = int(trie.offsets[begin]), int(trie.offsets[end])
            parents = trie.edge_keys[first:last] // trie.stride
            begin, end = end, last + 1  # edge e leads to node e + 1
            whole[begin:end] = every.step(whole[parents], trie.tokens[first:last].long())
        slot, device = Slot(trie, items.cpu()), model.codes.device
        return cls(slot.to(device), depths.to(device), whole.to(device))


class HeldCodes:
    """See :class:`legos.systems.exact_search.Held`; G tokens of B readers.

    Args:
        memory: what readers have read, one part.
    """

    def __init__(self, model: Tiger, memory: Memory, tree: ItemTree) -> None:
        self.model, self.memory, self.slot = model, memory, tree.slot
        self.num_users, self._depths, self._whole = memory.count, tree.depths, tree.whole
        self._layers: list[DecoderLayer] = list(model.decoder)  # type: ignore[arg-type]
        self._keys = [memory.keys(layer.read) for layer in self._layers]
        self._bias = model.decoder_positions(model.levels)  # (h, L, L)
        none = tree.depths.new_empty(0)
        self.users, self._paths = none, none.new_empty(0, model.levels)
        self._held = [memory.states.new_empty(0, 0) for _ in self._layers]  # (G, 2 h d)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of log-probabilities."""
        return torch.promote_types(self.memory.states.dtype, torch.float32)

    def read(self, segments: Segments) -> Following:
        """Read segments; nodes with one possible successor are neither read nor kept."""
        lengths = segments.lengths
        first = lengths.cumsum(0) - lengths
        offsets, nodes = self.slot.trie.offsets, segments.nodes
        counts = (offsets[nodes + 1] - offsets[nodes]).long()
        asked = counts > 0
        if self.model.by_tree:
            asked &= ~self.model.tree.unbranched[self._whole[nodes]]
        numbers = torch.full_like(nodes, UNREAD)
        states = self.memory.states.new_zeros(len(nodes), self.model.width)
        for step in range(int(lengths.max())):
            going = (lengths > step).nonzero()[:, 0]
            at = first[going] + step
            numbers[at] = segments.parents[going] if step == 0 else numbers[at - 1]
            inner = asked[at]
            going, at = going[inner], at[inner]
            if not len(at):
                continue
            parents = numbers[at]
            numbers[at] = len(self.users) + torch.arange(len(at), device=at.device)
            states[at] = self._write(segments.users[going], nodes[at], parents)
        edges = aranges(offsets[nodes].long(), counts)
        ends = torch.zeros(len(nodes), dtype=self.dtype, device=nodes.device)
        return Following(numbers, edges, self._steps(states, nodes, edges), ends)

    def _write(self, users: Tensor, nodes: Tensor, parents: Tensor) -> Tensor:
        """States after nodes ``(n,)`` of users, which ascend: ``(n, D)``."""
        model, depths = self.model, self._depths[nodes]
        every = torch.arange(len(nodes), device=nodes.device)
        begins = depths == 0
        tokens = self.slot.trie.tokens.long()[(nodes - 1).clamp(min=0)]
        rows = (tokens + model.firsts[(depths - 1).clamp(min=0)]).masked_fill(begins, model.start)
        paths = self._paths.new_full((len(nodes), model.levels), -1)
        paths[~begins] = self._paths[parents[~begins]]
        paths[every, depths] = len(self.users) + every
        self._paths, self.users = torch.cat([self._paths, paths]), torch.cat([self.users, users])
        hidden = torch.zeros(paths.shape, dtype=model.table.dtype, device=paths.device)
        hidden = hidden.masked_fill(paths < 0, -torch.inf)
        bias = (self._bias[:, depths].transpose(0, 1) + hidden[:, None])[:, :, None]  # (n, h, 1, L)
        queries = _Queries.of(users, self.memory.count)
        values = gather(model.table, rows)
        for number, layer in enumerate(self._layers):
            own = layer.own
            normed = own.norm(values)
            new = own.key_value(normed)
            held = new if not len(self._held[number]) else torch.cat([self._held[number], new])
            self._held[number] = held
            key, value = rearrange(
                gather(held, paths.clamp(min=0).flatten()), "(n t) (two h d) -> two n h t d",
                two=2, h=own.heads, t=model.levels,
            )  # fmt: skip
            query = rearrange(own.query(normed), "n (h d) -> n h 1 d", h=own.heads)
            attended = own.attend(query, key, value, bias)
            values = own.added(values, rearrange(attended, "n h 1 d -> n (h d)"))
            values = queries.ask(layer, values, self.memory, self._keys[number])
            values = layer.feed_forward(values)
        return model.outputs(values)

    def _steps(self, states: Tensor, nodes: Tensor, edges: Ragged) -> Tensor:
        """Log-probabilities ``(Q,)`` of the tokens of edges after states ``(P, D)`` of nodes."""
        tokens = self.slot.trie.tokens.long()[edges.values]
        found = torch.zeros(len(tokens), dtype=self.dtype, device=tokens.device)
        depths, whole, of = self._depths[nodes], self._whole[nodes], edges.rows
        place = torch.full_like(depths, -1)
        for level in range(self.model.levels):
            rows = ((depths == level) & (edges.lengths > 0)).nonzero()[:, 0]
            rows = rows[self.model.open_rows(whole[rows])]
            if not len(rows):
                continue
            place[rows] = torch.arange(len(rows), device=rows.device)
            chances = self.model.chances(states[rows], level, whole[rows])
            own = ((depths[of] == level) & (place[of] >= 0)).nonzero()[:, 0]
            found[own] = chances[place[of[own]], tokens[own]]
        return found

    def excess_of(self, numbers: Tensor) -> Tensor:
        """Zeros: the bounds are the log-probabilities themselves."""
        return torch.zeros(len(numbers), dtype=self.dtype, device=numbers.device)

    def keep_paths(self, parents: Tensor, most: int) -> Tensor:
        """Forget tokens on no path to an open node; the size of a page bounds the rest."""
        del most
        known = torch.zeros(len(self.users), dtype=torch.bool, device=parents.device)
        needed = self._paths[parents[parents >= 0]]
        known[needed[needed >= 0]] = True
        kept = known.nonzero()[:, 0]
        renumbered = torch.full((len(known) + 1,), UNREAD, device=parents.device)
        renumbered[kept] = torch.arange(len(kept), device=parents.device)
        self.users, self._paths = self.users[kept], renumbered[self._paths[kept]]
        self._held = [each[kept] for each in self._held]
        return renumbered[parents]  # the last one, of -1, is UNREAD


class _Queries(NamedTuple):
    """Tokens of users side by side: ``users`` that have any, ``slots`` of each in ``(B, Q)``."""

    users: Tensor
    slots: Tensor
    width: int

    @classmethod
    def of(cls, users: Tensor, count: int) -> _Queries:
        counts = torch.bincount(users, minlength=count)
        some, width = counts.nonzero()[:, 0], int(counts.max())
        place = torch.empty_like(counts)
        place[some] = torch.arange(len(some), device=users.device)
        return cls(some, place[users] * width + from_lengths(users, counts).positions, width)

    def ask(self, layer: DecoderLayer, values: Tensor, memory: Memory, keys: list[Keys]) -> Tensor:
        """Add to tokens ``(n, D)`` their attention to the histories of their users."""
        read, (part,), (own,) = layer.read, memory.parts, keys
        packed = read.query(read.norm(values))  # (n, h d)
        query = packed.new_zeros(len(self.users) * self.width, packed.shape[1])
        query[self.slots] = packed
        query = rearrange(query, "(b q) (h d) -> b h q d", q=self.width, h=read.heads)
        key, value, hidden = own.key, own.value, part.hidden
        if len(self.users) < memory.count:
            key, value, hidden = (each[self.users] for each in (key, value, hidden))
        attended = rearrange(read.attend(query, key, value, hidden), "b h q d -> (b q) (h d)")
        return read.added(values, attended[self.slots])
