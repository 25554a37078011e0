"""Token sequences as a tree in flat arrays, and the tree of valid answers.

Nodes are numbered level by level and, within a level, by (parent, token): the edges in this order
are sorted, and edge e leads to node e + 1. A step is one binary search for any number of states.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from legos.data.ragged import Ragged, from_lengths, offsets_of, padded_aranges
from legos.errors import DataError

ROOT, NOWHERE = 0, -1


@dataclass(frozen=True)
class Trie:
    """M nodes, M - 1 edges.

    Attributes:
        tokens: ``(M - 1,)`` int32 token of each edge.
        offsets: ``(M + 1,)`` int32; the edges of node n are ``offsets[n]:offsets[n + 1]``.
        ends: what ends at a node: M rows of sequence numbers (int64), none inside.
        edge_keys: ``(M - 1,)`` int64 ``node * stride + token``, ascending.
        unbranched: ``(M,)`` bool: neither the node nor any below it has several edges.
        sizes: ``(M,)`` int32 sequences that end at the node or below it.
        stride: more than any token.
        depth: tokens of the longest sequence.
    """

    tokens: Tensor
    offsets: Tensor
    ends: Ragged
    edge_keys: Tensor
    unbranched: Tensor
    sizes: Tensor
    stride: int
    depth: int

    @property
    def num_nodes(self) -> int:
        """M."""
        return self.offsets.numel() - 1

    @cached_property
    def runs(self) -> Tensor:
        """Nodes that follow each before one with no or several children, ``(M,)`` int32."""
        runs = torch.zeros(self.num_nodes, dtype=torch.int32, device=self.tokens.device)
        single = (self.offsets.diff() == 1).nonzero()[:, 0]
        child = self.offsets[single].long() + 1
        for _ in range(self.depth):  # lengthens every run by one node
            runs[single] = runs[child] + 1
        return runs

    def to(self, device: torch.device | str) -> Trie:
        """The same tree on another device."""
        values = [getattr(self, field.name) for field in fields(self)]
        moved: list[Any] = [v if isinstance(v, int) else v.to(device) for v in values]
        return Trie(*moved)

    def step(self, nodes: Tensor, tokens: Tensor) -> Tensor:
        """The children that tokens lead to, ``NOWHERE`` without one: two int64, one shape."""
        if not self.edge_keys.numel():
            return torch.full_like(nodes, NOWHERE)
        known = (nodes >= 0) & (tokens >= 0) & (tokens < self.stride)
        wanted = nodes * self.stride + tokens
        edges = torch.searchsorted(self.edge_keys, wanted).clamp_(max=self.edge_keys.numel() - 1)
        exists = known & (self.edge_keys[edges] == wanted)
        return (edges + 1).masked_fill(~exists, NOWHERE)

    def is_end(self, nodes: Tensor) -> Tensor:
        """Whether a sequence ends at nodes: any shape -> bool; never at ``NOWHERE``."""
        at = nodes.clamp(min=0)
        return (self.ends.offsets[at + 1] > self.ends.offsets[at]) & (nodes >= 0)

    def allowed(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens that may follow.

        Args:
            nodes: ``(n,)`` int64; ``NOWHERE`` allows nothing.

        Returns:
            edges ``(n, W)`` int64 (``tokens[edge]`` is the token, ``edge + 1`` the child; 0
            under the mask) and mask ``(n, W)`` bool; W is the most children of these, at least 1.
        """
        at = nodes.clamp(min=0)
        first = self.offsets[at].long()
        count = (self.offsets[at + 1].long() - first).masked_fill(nodes < 0, 0)
        width = max(1, int(count.max())) if nodes.numel() else 1
        edges, mask = padded_aranges(first, count, width)  # (n, W)
        return edges.masked_fill(~mask, 0), mask

    def ancestors(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """All nodes on the way from each of ``(n,)`` int64 to the root, both ends among them.

        Returns:
            which of the n each is of, and the nodes, ``(P,)`` int64 both.
        """
        rows = torch.arange(len(nodes), device=nodes.device)
        found = [(rows, nodes)]
        while len(nodes):
            inside = nodes > ROOT
            rows, nodes = rows[inside], nodes[inside]
            nodes = self.edge_keys[nodes - 1].div(self.stride, rounding_mode="floor")
            found.append((rows, nodes))
        of, passed = (torch.cat(parts) for parts in zip(*found, strict=True))
        return of, passed

    def follow(self, values: Tensor, starts: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
        """Follow sequences from the root as far as possible.

        Args:
            values: ``(P,)`` tokens.
            starts: ``(n,)`` int64 where in them each sequence begins.
            most: ``(n,)`` int64 tokens of each.

        Returns:
            the node that is reached and the tokens to it, ``(n,)`` int64 each.
        """
        active = torch.arange(len(starts), device=values.device)
        nodes, lengths = torch.zeros_like(starts), torch.zeros_like(starts)
        for depth in range(self.depth):
            active = active[most[active] > depth]
            deeper = self.step(nodes[active], values[starts[active] + depth].long())
            known = deeper != NOWHERE
            active = active[known]
            if not len(active):
                break
            nodes[active], lengths[active] = deeper[known], depth + 1
        return nodes, lengths

    def find(self, sequences: Ragged) -> Tensor:
        """Nodes where sequences end: N rows -> ``(N,)`` int64, ``NOWHERE`` if not in the tree."""
        most = sequences.lengths
        nodes, lengths = self.follow(sequences.values, sequences.offsets[:-1], most)
        return nodes.masked_fill(lengths < most, NOWHERE)


def build_trie(sequences: Ragged) -> Trie:
    """The tree of N token sequences, made level by level without a loop over sequences.

    Args:
        sequences: N rows of at least one token each; equal rows end at the same node.

    Raises:
        DataError: a row is empty, or a token negative.
    """
    lengths = sequences.lengths.numpy()
    values = sequences.values.numpy().astype(np.int64)
    if len(lengths) and lengths.min() < 1:
        raise DataError(f"entity {int(lengths.argmin())}: has no tokens, expected at least one")
    if len(values) and values.min() < 0:
        raise DataError(f"entities: token {int(values.min())}, expected 0 or more")
    stride = int(values.max()) + 1 if len(values) else 1
    starts = sequences.offsets[:-1].numpy()
    nodes = np.zeros(len(lengths), dtype=np.int64)
    levels: list[np.ndarray] = []  # keys of the edges of each level
    rows, num_nodes, depth = np.arange(len(lengths)), 1, 0
    while len(rows := rows[lengths[rows] > depth]):
        wanted = nodes[rows] * stride + values[starts[rows] + depth]
        keys, inverse = np.unique(wanted, return_inverse=True)
        nodes[rows] = num_nodes + inverse
        levels.append(keys)
        num_nodes, depth = num_nodes + len(keys), depth + 1
    keys = np.concatenate([np.zeros(0, dtype=np.int64), *levels])
    counts = np.bincount(keys // stride, minlength=num_nodes)
    ends = np.bincount(nodes, minlength=num_nodes)
    unbranched, sizes, end = counts <= 1, ends.astype(np.int32), num_nodes
    for level in reversed(levels):  # the nodes of a level follow each other
        begin, parents = end - len(level), level // stride
        unbranched[parents[~unbranched[begin:end]]] = False
        np.add.at(sizes, parents, sizes[begin:end])
        end = begin
    return Trie(
        tokens=torch.from_numpy((keys % stride).astype(np.int32)),
        offsets=torch.from_numpy(offsets_of(counts).astype(np.int32)),
        ends=from_lengths(np.argsort(nodes, kind="stable"), ends).tensors(),
        edge_keys=torch.from_numpy(keys),
        unbranched=torch.from_numpy(unbranched),
        sizes=torch.from_numpy(sizes),
        stride=stride,
        depth=depth,
    )


@dataclass(frozen=True)
class Slot:
    """The valid answers of a blank.

    Attributes:
        trie: of one surface of each; what ends at a node are rows of ``keys``.
        keys: ``(n,)`` int64 numbers of entities, ascending.
    """

    trie: Trie
    keys: Tensor

    def __post_init__(self) -> None:
        if bool((self.keys.diff() <= 0).any()):
            raise ValueError("keys of a slot: expected ascending numbers, each once")

    @cached_property
    def nodes(self) -> Tensor:
        """``(n,)`` int32 the node at which each of ``keys`` ends; made once for all searches."""
        ends = self.trie.ends
        nodes = torch.empty(len(self.keys), dtype=torch.int32, device=self.keys.device)
        nodes[ends.values] = ends.rows.int()
        return nodes

    def to(self, device: torch.device | str) -> Slot:
        """A copy on another device."""
        return Slot(self.trie.to(device), self.keys.to(device))

    def entities(self, nodes: Tensor) -> Ragged:
        """The entities that end at nodes, ``(n,)`` int64: n rows of keys, mostly one each."""
        rows = self.trie.ends.select(nodes)
        return Ragged(self.keys[rows.values], rows.offsets)
