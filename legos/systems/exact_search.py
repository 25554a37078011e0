"""Exact search for the K most likely entities under any model that generates tokens in order.

Log-probabilities only fall along an entity's tokens, so that an open node of the tree bounds all
that ends below it. So does any upper bound of them that costs less to compute. The search reads the
likeliest open nodes in waves and ends when the best of them is less likely than the K-th entity
found (best-first search with a bound of zero on what is left: Hart, Nilsson and Raphael, 1968). The
waves read what beams would as well, which finds K good entities soon: nodes below them are never
read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from legos.data.ragged import Ragged, from_lengths
from legos.systems.exclusion import Exclusion
from legos.systems.trie import NOWHERE, ROOT, Slot

UNREAD = -1  # no token of a node's path is held


@dataclass(frozen=True)
class Segments:
    """n paths through the tree that are read at once, P tokens in all.

    Attributes:
        users: ``(n,)`` int64 whose each is, ascending; those with near paths next to each other.
        parents: ``(n,)`` int64 what was read last before each, ``UNREAD`` for the root.
        of: ``(P,)`` int64 segment of each token, ascending.
        nodes: ``(P,)`` int64 nodes of the tree; in a segment each is a child of the one before.
    """

    users: Tensor
    parents: Tensor
    of: Tensor
    nodes: Tensor

    @property
    def lengths(self) -> Tensor:
        """``(n,)`` int64 tokens of each."""
        return torch.bincount(self.of, minlength=len(self.users))


class Following(NamedTuple):
    """Possible next tokens after P tokens.

    Attributes:
        numbers: ``(P,)`` int64 by which further segments go on from them.
        edges: P rows of edges of the tree, Q in all.
        steps: ``(Q,)`` upper bounds of the log-probabilities of their tokens.
        ends: ``(P,)`` of what ends an entity there.
    """

    numbers: Tensor
    edges: Ragged
    steps: Tensor
    ends: Tensor


class Held(Protocol):
    """The model's states of the paths that were read, for each of B users.

    Attributes:
        slot: what may be written, on its device.
        users: ``(G,)`` int64 whose each token is that is held.
    """

    slot: Slot
    users: Tensor

    @property
    def num_users(self) -> int:
        """B."""

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of log-probabilities: float32, or float64 for a model in float64."""

    def read(self, segments: Segments) -> Following:
        """Read segments and keep their states."""

    def excess_of(self, numbers: Tensor) -> Tensor:
        """The excess of bounds over log-probabilities, for ends after tokens: ``(n,)`` both."""

    def keep_paths(self, parents: Tensor, most: int) -> Tensor:
        """Forget tokens on no path to open nodes, and the least likely paths beyond ``most``.

        Args:
            parents: ``(n,)`` int64 what was read last before open nodes, those of a user the most
                likely first.
            most: tokens of a user.

        Returns:
            the same by their new numbers, ``UNREAD`` where their paths are forgotten.
        """


@dataclass(frozen=True)
class SearchWork:
    """Settings of a search; only ``most_read`` changes its results.

    Attributes:
        dive: beams of the dive; 0: none.
        wave: tokens of a user that are read at once, the dive's first; the last node is read with
            what follows it, and the dive is read whole.
        ahead: further tokens that are read at once where there is one way to go on.
        most_read: tokens of a user after which no wave begins; None: until all is proven.
        most_held: tokens of a user that are held between waves.
    """

    dive: int = 20
    wave: int = 96
    ahead: int = 0
    most_read: int | None = None
    most_held: int = 4096


class Found(NamedTuple):
    """The best entities of B users, the best first; of equal ones that of the lowest key.

    Attributes:
        nodes: ``(B, K)`` int64 where they end in the slot's tree; ``NOWHERE``: there are fewer.
        scores: ``(B, K)`` log-probability of the tokens and of what ends them, -inf where there
            are fewer; of :attr:`Held.dtype`.
        proven: ``(B,)`` int64 how many of the first are those of a full enumeration; K: all.
        read: ``(B,)`` int64 tokens that were read of each user.
    """

    nodes: Tensor
    scores: Tensor
    proven: Tensor
    read: Tensor


class _Open(NamedTuple):
    """n open nodes, which may lead to answers; all ``(n,)``.

    Attributes:
        users: int64.
        nodes: int64.
        scores: upper bound of the log-probability up to the node itself.
        parents: int64 what :class:`Held` knows the parent by.
        fresh: bool: the dive has found it in the last wave.
    """

    users: Tensor
    nodes: Tensor
    scores: Tensor
    parents: Tensor
    fresh: Tensor

    def select(self, chosen: Tensor) -> _Open:
        """Select some nodes by number or by mask."""
        return _Open(*(each[chosen] for each in self))


@torch.no_grad()
def find_best(
    held: Held, *, count: int, excluded: Ragged | None = None, work: SearchWork | None = None
) -> Found:
    """The most likely entities of each of B users.

    Args:
        held: nothing was read yet.
        count: K.
        excluded: B rows of keys of the slot that are no answers.
    """
    exclusion = None if excluded is None else Exclusion.of(held.slot, excluded)
    search = _Search(held, exclusion, count, work)
    while search.goes_on():
        search.read(search.choose())
    return Found(search.best_nodes, search.best_scores, search.proven, search.has_read)


class _Search:
    """Open nodes and results of B users, of whom R are not done."""

    def __init__(
        self, held: Held, exclusion: Exclusion | None, count: int, work: SearchWork | None
    ) -> None:
        self.held, self.exclusion, self.work = held, exclusion, work or SearchWork()
        self.slot, users, device = held.slot, held.num_users, held.slot.keys.device
        everyone = torch.arange(users, device=device)
        self.going = torch.ones_like(everyone, dtype=torch.bool)  # (B,)
        self.best_nodes = everyone.new_full((users, count), NOWHERE)
        self.best_scores = torch.full((users, count), -torch.inf, dtype=held.dtype, device=device)
        self.proven, self.has_read = torch.zeros_like(everyone), torch.zeros_like(everyone)
        self.tidy = 0  # tokens that were left when what is held was last tidied
        root, begin = torch.full_like(everyone, ROOT), torch.full_like(everyone, UNREAD)
        nothing_read = torch.zeros(users, dtype=held.dtype, device=device)
        dives = torch.full_like(everyone, self.work.dive > 0, dtype=torch.bool)
        self.open = _Open(everyone, root, nothing_read, begin, dives)
        if exclusion is not None:
            self.open = self.open.select(~exclusion.shuts(everyone, root))

    def goes_on(self) -> bool:
        """Close nodes that can lead to no result; return whether a user has open nodes left."""
        last = self.best_scores[:, -1]
        reach = (self.open.scores >= last[self.open.users]) & (self.open.scores > -torch.inf)
        self.open = self.open.select(reach)
        best = torch.full_like(last, -torch.inf)
        best.scatter_reduce_(0, self.open.users, self.open.scores, "amax")
        done = best == -torch.inf
        if self.work.most_read is not None:
            done = done | (self.has_read >= self.work.most_read)
        ended = done & self.going
        sure = (self.best_scores > best[:, None]) | (best == -torch.inf)[:, None]
        self.proven = sure.sum(1).where(ended, self.proven)
        self.going = ~done & self.going
        self.open = self.open.select(self.going[self.open.users])
        return bool(self.going.any())

    def choose(self) -> _Open:
        """Take the nodes of the next wave from the open ones: the most likely of each user.

        Those of the dive come first.
        """
        users, scores, nodes = self.open.users, self.open.scores, self.open.nodes
        fresh = self.open.fresh.nonzero()[:, 0]
        turn = turns(users[fresh], scores[fresh], nodes[fresh])
        diving = torch.zeros_like(self.open.fresh)
        diving[fresh[turn < self.work.dive]] = True
        lengths = self._lengths(nodes, diving)
        order = ranked(users, scores.masked_fill(diving, torch.inf), nodes)
        before = lengths[order].cumsum(0) - lengths[order]
        counts = torch.bincount(users)
        first = (counts.cumsum(0) - counts)[users[order]]  # of the same user
        before = before - before[first]
        taken = diving.clone()
        taken[order[before < self._room()[users[order]]]] = True
        left = self.open.select(~taken)
        wave = self.open._replace(fresh=diving).select(taken)
        self.open = left._replace(fresh=torch.zeros_like(left.fresh))
        order = wave.nodes.argsort(stable=True)  # near paths have near nodes of each depth
        return wave.select(order[wave.users[order].argsort(stable=True)])

    def _room(self) -> Tensor:
        """Tokens of the next wave of each user, ``(B,)`` int64: half of what it has read."""
        room = (self.has_read // 2).clamp(min=self.work.wave)
        if self.work.most_read is not None:
            room = room.minimum(self.work.most_read - self.has_read)
        return room

    def read(self, wave: _Open) -> None:
        """Read nodes and their single successors; open the children of the last."""
        of, nodes = self._ways(wave)
        found = self.held.read(Segments(wave.users, wave.parents, of, nodes))
        self.has_read.index_add_(0, wave.users[of], torch.ones_like(of))
        users, edges = wave.users[of], found.edges
        asked = nodes >= wave.nodes[of]  # what comes before was scored when it was read first
        follows = torch.zeros_like(asked)  # whether the next token is in the same segment
        follows[:-1] = of[1:] == of[:-1]
        lengths = torch.bincount(of, minlength=len(wave.users))
        inside = from_lengths(of, lengths).positions
        along = wave.scores.new_zeros(len(lengths), int(lengths.max()))
        begins = asked & (nodes == wave.nodes[of])
        along[of[begins], inside[begins]] = wave.scores[of[begins]]
        into = (asked & follows).nonzero()[:, 0]  # these have one child
        along[of[into], inside[into] + 1] = found.steps[edges.offsets[into]]
        scores = along.cumsum(1)[of, inside]  # (P,)
        ends = asked & self._may_end(users, nodes)
        self._settle(users[ends], nodes[ends], (scores + found.ends)[ends], found.numbers[ends])
        out = (~follows)[edges.rows]
        rows = edges.rows[out]
        children = _Open(
            users[rows], edges.values[out] + 1, scores[rows] + found.steps[out],
            found.numbers[rows], wave.fresh[of[rows]],
        )  # fmt: skip
        if self.exclusion is not None:
            children = children.select(~self.exclusion.shuts(children.users, children.nodes))
        reach = children.scores >= self.best_scores[children.users, -1]
        self.open = _Open(
            *(torch.cat(p) for p in zip(self.open, children.select(reach), strict=True))
        )
        self._tidy()

    def _lengths(self, nodes: Tensor, diving: Tensor) -> Tensor:
        """Tokens that are read at once from nodes on, ``(n,)`` int64, if nothing is excluded."""
        runs = self.slot.trie.runs[nodes].long()
        return 1 + torch.where(diving, runs, runs.clamp(max=self.work.ahead))

    def _ways(self, wave: _Open) -> tuple[Tensor, Tensor]:
        """Tokens to read for each node: missing ones before it, itself, and single successors.

        Returns:
            segment and node of each, ``(P,)`` int64 both.
        """
        trie, count = self.slot.trie, self.slot.trie.num_nodes
        every = torch.arange(len(wave.nodes), device=wave.nodes.device)
        found = [every * count + wave.nodes]
        lost = every[(wave.parents == UNREAD) & (wave.nodes != ROOT)]
        of, before = trie.ancestors(wave.nodes[lost])
        found.append(lost[of] * count + before)
        going, nodes = every, wave.nodes
        for step in range(trie.depth):
            single = trie.offsets[nodes + 1] - trie.offsets[nodes] == 1
            if step >= self.work.ahead:
                single &= wave.fresh[going]  # the dive reads to the end
            going, nodes = going[single], trie.offsets[nodes[single]].long() + 1
            if self.exclusion is not None:
                shut = self.exclusion.shuts(wave.users[going], nodes)
                going, nodes = going[~shut], nodes[~shut]
            if not len(going):
                break
            found.append(going * count + nodes)
        tokens = torch.cat(found).unique()  # nodes are numbered from the root on
        return tokens // count, tokens % count

    def _may_end(self, users: Tensor, nodes: Tensor) -> Tensor:
        ends = self.slot.trie.is_end(nodes)
        return ends if self.exclusion is None else ends & ~self.exclusion.bars(users, nodes)

    def _settle(self, users: Tensor, nodes: Tensor, bounds: Tensor, numbers: Tensor) -> None:
        """Enter entities ``(n,)`` among the best by their log-probabilities.

        These cost more than their bounds, so the best bounds go first, and those that fall behind
        the list by then are left out.
        """
        while True:
            reach = bounds >= self.best_scores[users, -1]
            users, nodes, bounds, numbers = (
                each[reach] for each in (users, nodes, bounds, numbers)
            )
            if not len(users):
                return
            now = turns(users, bounds, nodes) < self.best_nodes.shape[1]
            exact = bounds[now] - self.held.excess_of(numbers[now])
            self._compete(users[now], nodes[now], exact)
            users, nodes, bounds, numbers = (each[~now] for each in (users, nodes, bounds, numbers))

    def _compete(self, users: Tensor, nodes: Tensor, scores: Tensor) -> None:
        """Enter entities ``(n,)`` among the best of their users."""
        count, there = self.best_nodes.shape[1], self.best_scores > -torch.inf
        kept = there.nonzero()[:, 0]
        users = torch.cat([kept, users])
        nodes = torch.cat([self.best_nodes[there], nodes])
        scores = torch.cat([self.best_scores[there], scores])
        turn = turns(users, scores, self._lowest(users, nodes))
        best = (turn < count) & (scores > -torch.inf)
        self.best_nodes[users[best], turn[best]] = nodes[best]
        self.best_scores[users[best], turn[best]] = scores[best]

    def _lowest(self, users: Tensor, nodes: Tensor) -> Tensor:
        """The lowest of the answers that end at each node, as a row of the slot's keys."""
        if self.exclusion is None:
            ends = self.slot.trie.ends
            return ends.values[ends.offsets[nodes]]
        left = self.exclusion.left(users, nodes)
        return left.values[left.offsets[:-1]]

    def _tidy(self) -> None:
        """Forget unneeded tokens once there are many."""
        most, held = self.work.most_held, len(self.held.users)
        if held <= min(most * len(self.going), 2 * self.tidy + 256):
            return
        turn = turns(self.open.users, self.open.scores, self.open.nodes)
        self.open = self.open.select(turn.argsort(stable=True))
        parents = self.held.keep_paths(self.open.parents, most)
        self.open = self.open._replace(parents=parents)
        self.tidy = len(self.held.users)


def turns(users: Tensor, scores: Tensor, keys: Tensor) -> Tensor:
    """Places ``(n,)`` int64 among those of the same user: by score, then the lower key first."""
    order = ranked(users, scores, keys)
    turn = torch.empty_like(users)
    turn[order] = from_lengths(order, torch.bincount(users)).positions
    return turn


def ranked(users: Tensor, scores: Tensor, keys: Tensor) -> Tensor:
    """The order ``(n,)`` int64 by user, then by score, then the lower key first."""
    order = keys.argsort(stable=True)
    order = order[scores[order].argsort(descending=True, stable=True)]
    return order[users[order].argsort(stable=True)]
