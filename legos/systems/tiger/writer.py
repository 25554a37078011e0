"""Inference of TIGER: exact lists of the most likely items, and scores of given ones."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.evaluation.rank import NO_ITEM, Best, join_lists
from legos.systems.exact_search import SearchWork, find_best
from legos.systems.tiger.layers import Memory
from legos.systems.tiger.model import Reading, Tiger
from legos.systems.tiger.search import HeldCodes, ItemTree

_READERS = 128  # searched for together
_TUPLES = 2**14  # scored together


class Histories(NamedTuple):
    """Histories of R readers.

    Attributes:
        items: R histories, oldest first, cut to what is read.
        users: ``(R,)`` int64 tokens, see :class:`legos.systems.tiger.model.Reading`.
    """

    items: Ragged
    users: Tensor

    def part(self, rows: Tensor) -> Histories:
        """Select some readers, by number ``(n,)`` int64."""
        return Histories(self.items.select(rows), self.users[rows])


def user_tokens(names: Sequence[str], count: int) -> Tensor:
    """Token of each user among ``count``, by a hash of the raw id; the last one is for new users.

    Returns:
        ``(users + 1,)`` int64.
    """
    found = [zlib.crc32(name.encode()) % count for name in names]
    return torch.tensor([*found, count], dtype=torch.int64)


class Writer:
    """Lists and scores by a model in evaluation mode.

    Args:
        offered: ``(n,)`` int64 items that lists are made of, ascending.
    """

    def __init__(self, model: Tiger, offered: Tensor) -> None:
        self.model, self.tree = model, ItemTree.of(model, offered)

    def _read(self, histories: Histories, parts: int) -> Memory:
        rows = torch.arange(len(histories.users), device=histories.users.device)
        reading = Reading(histories.items, histories.users, rows, histories.items.lengths)
        memory = self.model.read(reading)
        return Memory(memory.states, memory.starts, memory.lengths, parts)

    @torch.no_grad()
    def lists(self, histories: Histories, excluded: Ragged, count: int) -> Best:
        """Find the most likely items of each reader, without excluded ones; ties by item number.

        Args:
            excluded: R rows of items.
            count: items of a list.
        """
        order = histories.items.lengths.argsort(stable=True)  # of like lengths together
        found = []
        for rows in order.split(_READERS):
            held = HeldCodes(self.model, self._read(histories.part(rows), 1), self.tree)
            work = SearchWork(dive=count, wave=2 * count)
            best = find_best(held, count=count, excluded=excluded.select(rows), work=work)
            found.append(Best(self._items(best.nodes), best.scores.float(), best.proven))
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        return Best(*(each[back] for each in join_lists(found) if each is not None))

    def _items(self, nodes: Tensor) -> Tensor:
        """The item that ends at each node, ``NO_ITEM`` if none does."""
        ends, keys = self.tree.slot.trie.ends, self.tree.slot.keys
        first = ends.offsets[nodes.clamp(min=0)]
        return keys[ends.values[first.clamp(max=len(keys) - 1)]].masked_fill(nodes < 0, NO_ITEM)

    @torch.no_grad()
    def scores(self, histories: Histories, items: Tensor) -> Tensor:
        """Log-probabilities of items ``(R, C)`` int64 for their readers: ``(R, C)`` float32."""
        found = []
        step = max(1, min(_READERS, _TUPLES // max(1, items.shape[1])))
        for rows in torch.arange(len(items), device=items.device).split(step):
            memory = self._read(histories.part(rows), 16)
            parts = [
                -self.model.losses(memory, self.model.codes[some])
                for some in items[rows].split(_TUPLES, 1)
            ]
            found.append(torch.cat(parts, 1).float())
        return torch.cat(found)
