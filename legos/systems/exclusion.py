"""Excluded entities of users, as parts of the tree of all entities.

Each excluded entity is walked from its end up to the root: a node below which every entity is
excluded is never entered, so that beams are spent on answers alone. The walk and a step of the
search cost what is excluded and how many beams there are, however many entities the tree has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from legos.data.ragged import Ragged, aranges
from legos.systems.trie import Slot


@dataclass(frozen=True)
class Exclusion:
    """Nodes of a tree of M that are closed to B users, as ``user * M + node``, ascending.

    Attributes:
        slot: whose tree.
        answers: what is excluded itself, as ``user * n + row`` of the slot's n keys, ascending.
        ends: nodes at which nothing but excluded entities ends.
        closed: nodes at and below which nothing but excluded entities ends.
    """

    slot: Slot
    answers: Tensor
    ends: Tensor
    closed: Tensor

    @classmethod
    def of(cls, slot: Slot, excluded: Ragged) -> Self:
        """``excluded``: B rows of keys, any of them more than once or none of the slot's."""
        trie, keys, count = slot.trie, slot.keys, slot.trie.num_nodes
        row = torch.searchsorted(keys, excluded.values)
        known = _among(keys, excluded.values)
        answers = (excluded.rows[known] * len(keys) + row[known]).unique()  # each pair once
        users, row = answers // max(1, len(keys)), answers % max(1, len(keys))
        nodes = slot.nodes[row].long()
        at, hits = (users * count + nodes).unique(return_counts=True)
        ends = at[hits == trie.ends.offsets[at % count + 1] - trie.ends.offsets[at % count]]
        of, passed = trie.ancestors(nodes)
        at, hits = (users[of] * count + passed).unique(return_counts=True)
        return cls(slot, answers, ends, at[hits == trie.sizes[at % count]])

    def bars(self, users: Tensor, nodes: Tensor) -> Tensor:
        """Whether the ends of nodes ``(n,)`` are excluded for users ``(n,)``, both int64."""
        return _among(self.ends, users * self.slot.trie.num_nodes + nodes)

    def shuts(self, users: Tensor, nodes: Tensor) -> Tensor:
        """Whether nothing at nodes and below is an answer for users: ``(n,)`` int64 -> bool."""
        return _among(self.closed, users * self.slot.trie.num_nodes + nodes)

    def left(self, users: Tensor, nodes: Tensor) -> Ragged:
        """Rows of the slot's keys that end at nodes and are answers for users: n rows."""
        rows = self.slot.trie.ends.select(nodes)
        pairs = rows.spread(users) * len(self.slot.keys) + rows.values
        return rows.keep(~_among(self.answers, pairs))

    def close(self, users: Tensor, nodes: Tensor, allowed: Tensor) -> None:
        """Remove closed children from the result of :meth:`Trie.allowed`, ``(n, W)`` bool."""
        count, offsets = self.slot.trie.num_nodes, self.slot.trie.offsets
        first, end = offsets[nodes].long(), offsets[nodes + 1].long()  # edge e leads to node e + 1
        begin = torch.searchsorted(self.closed, users * count + first + 1)
        found = aranges(begin, torch.searchsorted(self.closed, users * count + end + 1) - begin)
        beams = found.rows
        allowed[beams, self.closed[found.values] % count - 1 - first[beams]] = False


def _among(known: Tensor, wanted: Tensor) -> Tensor:
    """Whether each of ``(n,)`` numbers is one of the known ones, which ascend: ``(n,)`` bool."""
    place = torch.searchsorted(known, wanted)
    return torch.searchsorted(known, wanted, right=True) > place
