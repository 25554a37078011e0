"""Gated graph network over items and what they are linked to, each item's state found once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from legos.blocks.packed import gather, segment_sum
from legos.data.ragged import Ragged, aranges

_PAGE = 8_192  # nodes whose neighbours' states are held at once


class GatedGraph(nn.Module):
    """Li et al., "Gated Graph Sequence Neural Networks", ICLR 2016 (arXiv:1511.05493).

    In layer l a node's state becomes ``GRU(Σ_j W_l h_j, h)``, j over its neighbours. Its last state
    depends on what is at most as many edges away as there are layers, and on nothing else: not on
    which other nodes are asked for.

    Args:
        neighbours: a row a node, the nodes it takes messages from.
        size: D of a state.
        num_layers: of them.
    """

    _values: Tensor
    _offsets: Tensor

    def __init__(self, neighbours: Ragged, *, size: int, num_layers: int) -> None:
        super().__init__()
        # from tables, so not in a checkpoint
        self.register_buffer("_values", neighbours.values, persistent=False)
        self.register_buffer("_offsets", neighbours.offsets, persistent=False)
        self.weight = nn.Parameter(torch.empty(num_layers, size, size))
        nn.init.uniform_(self.weight, -(size**-0.5), size**-0.5)
        self.gate = nn.GRUCell(size, size)

    def neighbours(self, nodes: Tensor) -> Ragged:
        """Those of nodes ``(N,)`` int64; of a node that the graph does not have, none."""
        last = len(self._offsets) - 1
        starts = self._offsets[nodes.clamp(max=last)]
        lengths = self._offsets[(nodes + 1).clamp(max=last)] - starts
        places = aranges(starts, lengths)
        return Ragged(self._values[places.values], places.offsets)

    def forward(self, nodes: Tensor, encode: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """First and last states of nodes, ``(N, D)`` each.

        Args:
            nodes: ``(N,)`` int64, ascending and distinct.
            encode: nodes ``(M,)`` -> first states ``(M, D)``; called once, for distinct nodes.
        """
        needed = [nodes]  # of the last layer, ..., of the first states
        for _ in self.weight:
            around = torch.cat([needed[-1], self.neighbours(needed[-1]).values])
            needed.append(torch.unique(around))
        first = state = encode(needed[-1])
        for layer, (outer, inner) in enumerate(zip(needed[:0:-1], needed[-2::-1], strict=True)):
            heard = self.neighbours(inner)
            places = Ragged(torch.searchsorted(outer, heard.values), heard.offsets)
            own = gather(state, torch.searchsorted(outer, inner))
            state = self._next(layer, state, places, own)
        return gather(first, torch.searchsorted(needed[-1], nodes)), state

    def over_all(self, state: Tensor) -> Tensor:
        """First states of all nodes ``(N, D)`` -> last states ``(N, D)``."""
        nodes = torch.arange(len(state), device=state.device)
        for layer in range(len(self.weight)):
            pages = [
                self._next(layer, state, self.neighbours(page), state[page])
                for page in nodes.split(_PAGE)
            ]
            state = torch.cat(pages) if pages else state
        return state

    def _next(self, layer: int, state: Tensor, heard: Ragged, own: Tensor) -> Tensor:
        """States of the next layer, from ``state[heard]`` and the nodes' own, ``(N, D)``."""
        total = segment_sum(gather(state, heard.values), heard.rows, len(heard))
        after: Tensor = self.gate(total @ self.weight[layer], own)
        return after
