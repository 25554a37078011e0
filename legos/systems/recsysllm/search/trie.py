"""The token sequences of all entities as one tree, in flat arrays on any device.

Nodes are numbered level by level and, within a level, by (parent, token): the edges in this order
are sorted, and edge e leads to node e + 1. A step is one binary search for any number of states.
"""

from __future__ import annotations

from dataclasses import dataclass

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
        stride: more than any token.
        depth: tokens of the longest sequence.
        children: the most edges of a node.
    """

    tokens: Tensor
    offsets: Tensor
    ends: Ragged
    edge_keys: Tensor
    unbranched: Tensor
    stride: int
    depth: int
    children: int

    @property
    def num_nodes(self) -> int:
        """M."""
        return self.offsets.numel() - 1

    @property
    def device(self) -> torch.device:
        """Where its arrays lie."""
        return self.tokens.device

    def to(self, device: torch.device | str) -> Trie:
        """The same tree on another device."""
        return Trie(
            self.tokens.to(device), self.offsets.to(device), self.ends.to(device),
            self.edge_keys.to(device), self.unbranched.to(device), self.stride, self.depth,
            self.children,
        )  # fmt: skip

    def step(self, nodes: Tensor, tokens: Tensor) -> Tensor:
        """Where a token leads.

        Args:
            nodes: any shape, int64; ``NOWHERE`` stays nowhere.
            tokens: the same shape, int64.

        Returns:
            the same shape, int64: the child, or ``NOWHERE`` where there is none.
        """
        if not self.edge_keys.numel():
            return torch.full_like(nodes, NOWHERE)
        known = (nodes >= 0) & (tokens >= 0) & (tokens < self.stride)
        wanted = nodes * self.stride + tokens
        edges = torch.searchsorted(self.edge_keys, wanted).clamp_(max=self.edge_keys.numel() - 1)
        found = known & (self.edge_keys[edges] == wanted)
        return (edges + 1).masked_fill(~found, NOWHERE)

    def is_end(self, nodes: Tensor) -> Tensor:
        """Whether a sequence ends there: any shape -> bool; never at ``NOWHERE``."""
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

    def find(self, sequences: Ragged) -> Tensor:
        """Where sequences end: N rows -> ``(N,)`` int64, ``NOWHERE`` if not in the tree."""
        lengths = sequences.lengths
        nodes = torch.zeros_like(lengths)
        for depth in range(int(lengths.max()) if len(sequences) else 0):
            inside = lengths > depth
            at = (sequences.offsets[:-1] + depth)[inside]
            nodes[inside] = self.step(nodes[inside], sequences.values[at].long())
        return nodes


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
        keys, place = np.unique(wanted, return_inverse=True)
        nodes[rows] = num_nodes + place
        levels.append(keys)
        num_nodes, depth = num_nodes + len(keys), depth + 1
    keys = np.concatenate(levels) if levels else np.zeros(0, dtype=np.int64)
    counts = np.bincount(keys // stride, minlength=num_nodes)
    order = np.argsort(nodes, kind="stable")
    ends = np.bincount(nodes, minlength=num_nodes)
    return Trie(
        tokens=torch.from_numpy((keys % stride).astype(np.int32)),
        offsets=torch.from_numpy(offsets_of(counts).astype(np.int32)),
        ends=from_lengths(order, ends).tensors(),
        edge_keys=torch.from_numpy(keys),
        unbranched=torch.from_numpy(_unbranched(levels, counts, stride)),
        stride=stride,
        depth=depth,
        children=int(counts.max()),
    )


def _unbranched(levels: list[np.ndarray], counts: np.ndarray, stride: int) -> np.ndarray:
    """From the lowest level up: a node is, if it has one edge at most and its child is."""
    found: np.ndarray = counts <= 1
    end = len(counts)
    for keys in reversed(levels):  # the nodes of a level follow each other
        begin = end - len(keys)
        found[keys[~found[begin:end]] // stride] = False
        end = begin
    return found
