"""Beam search that can write nothing but entities.

The tree of valid entities lies on the device: what may follow is gathered from its arrays, for all
beams at once, and nothing of the vocabulary's size is made in Python. A prompt is read once and its
keys and values are never copied: beams are places of its row. As soon as no beam can branch any
more, which with titles is after their first few words, what is left of all of them is read at once.
Every beam that may end competes with its [END]; transformers' search drops an end that is not among
the K best steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.systems.recsysllm.automaton import (
    NOWHERE,
    ROOT,
    START_ID,
    Automaton,
    AutomatonState,
    Slot,
)
from legos.systems.recsysllm.backbones.decoder import InfillBackbone
from legos.systems.recsysllm.decoding import ReadPrompts, chunks, side_by_side, token_losses
from legos.systems.recsysllm.positions import Places


@dataclass(frozen=True)
class Ranked:
    """The best entities of B prompts, the best first.

    Attributes:
        nodes: ``(B, n)`` int64 where they end in the slot's tree; ``NOWHERE``: there are fewer.
        scores: ``(B, n)`` float32 log-probability of the tokens and [END]; -inf where there are
            fewer.
    """

    nodes: Tensor
    scores: Tensor


@torch.no_grad()
def rank_entities(
    backbone: InfillBackbone,
    read: ReadPrompts,
    slot: Slot,
    automaton: Automaton,
    *,
    num_beams: int,
    num_results: int | None = None,
    length_penalty: float = 0.0,
    early_stop: bool = True,
    excluded: Ragged | None = None,
    max_tokens: int = 1024,
) -> Ranked:
    """The most likely entities for the (single) blank of each prompt.

    Args:
        backbone: in evaluation mode.
        read: B prompts of one blank each.
        slot: what may be written, on its device.
        automaton: of all entities, on its device.
        num_beams: K; with at least as many as there are entities the ranking is exact.
        num_results: how many are asked for; K by default.
        length_penalty: scores are divided by the number of tokens to this power; 0: the model's own
            probability, of which the paper says nothing.
        early_stop: drop beams that cannot come among the results any more, and end when none is
            left (exact: log-probabilities only fall; without effect under a length penalty).
        excluded: B rows of keys of the slot that are no answers.
        max_tokens: of a prompt's beams that are read at once: attention costs its square.

    Raises:
        DataError: a prompt has not exactly one blank.
    """
    search = _Search(backbone, read, slot, automaton)
    search.barred = None if excluded is None else _barred(slot, excluded)
    search.penalty = length_penalty
    prune = early_stop and length_penalty == 0
    search.start(num_results or num_beams)
    for _ in range(slot.trie.depth + 1):
        search.finish()
        if search.unbranched():
            search.read_on(prune=prune, max_tokens=max_tokens)
            break
        if not search.grow(num_beams, prune=prune):
            break
        search.feed()
    return Ranked(search.nodes_found, search.scores_found)


class _Search:
    """Live beams and results.

    A user is a row, its beams are places in it: R rows of k places, flat. The keys and values of
    what beams wrote stand in the row behind the prompt, each once; the mask says which of them are
    a beam's own, so that nothing is copied when beams are chosen. Rows without live beams go.
    """

    barred: Tensor | None
    penalty: float

    def __init__(
        self,
        backbone: InfillBackbone,
        read: ReadPrompts,
        slot: Slot,
        automaton: Automaton,
    ) -> None:
        self.backbone, self.slot, self.automaton = backbone, slot, automaton
        self.device, self.inter = read.real.device, read.only_blanks()
        self.order = read.prompts.prompt_lengths.clone()
        self.cache, self.real = read.cache(), read.real  # (R, A)

    def start(self, wanted: int) -> None:
        """One beam a user, [START] fed."""
        users = len(self.order)
        shape = (users,)
        self.users = torch.arange(users, device=self.device)  # (R,) of each row
        self.nodes = torch.full(shape, ROOT, dtype=torch.int64, device=self.device)
        self.scores = torch.zeros(shape, device=self.device)
        self.state = self.automaton.start(shape)
        self.tokens = torch.full(shape, self.backbone.special.start, device=self.device)
        self.nodes_found = self.nodes.new_full((users, wanted), NOWHERE)
        self.scores_found = self.scores.new_full((users, wanted), -torch.inf)
        self.intra = torch.full(shape, START_ID, dtype=torch.int64, device=self.device)
        self.written = self.nodes.new_empty((users, 0))  # (R * k, t) columns of a beam's tokens
        self.columns = 0  # of all beams so far
        self.feed()

    def feed(self) -> None:
        """The last token of every beam -> log-probabilities after the n live ones, ``(n, V)``."""
        rows = len(self.users)
        width = len(self.nodes) // rows
        own = self.columns + torch.arange(width, device=self.device).repeat(rows)
        order = self.order[:, None] + self.written.shape[1]
        self.written = torch.cat([self.written, own[:, None]], 1)
        self.columns += width
        places = Places(
            self.tokens.view(rows, width),
            self.inter[:, None].expand(rows, width),
            self.intra.view(rows, width),
            order.expand(rows, width),
        )
        seen = self.real.new_zeros(rows * width, self.columns).scatter_(1, self.written, True)
        prompt = self.real[:, None].expand(-1, width, -1)
        mask = torch.cat([prompt, seen.view(rows, width, -1)], 2)[:, None]
        states = self.backbone.states(places, mask, self.cache).flatten(0, 1)
        self.live = (self.scores > -torch.inf).nonzero()[:, 0]
        self.log_probabilities = self.backbone.logits(states[self.live]).float().log_softmax(-1)

    def finish(self) -> None:
        """Beams that may end compete with the results so far."""
        scores = self.scores[self.live] + self.log_probabilities[:, self.backbone.special.end]
        at = torch.zeros_like(self.live)
        self._compete(self.live, at, self.nodes[self.live], scores)

    def _compete(self, beams: Tensor, steps: Tensor, nodes: Tensor, scores: Tensor) -> None:
        """Beams ``(n,)`` that end so many steps from now at these nodes, with [END] counted."""
        rows, trie = len(self.users), self.slot.trie
        width = len(self.nodes) // rows
        ends = trie.is_end(nodes)
        if self.barred is not None:
            user = self.users[beams // width]
            ends = ends & ~torch.isin(user * trie.num_nodes + nodes, self.barred)
        if self.penalty:  # its tokens and [END]
            scores = scores / (self.written.shape[1] + steps) ** self.penalty
        shape = (len(self.nodes), int(steps.max()) + 1)
        ended = scores.new_full(shape, -torch.inf)
        ended[beams, steps] = scores.masked_fill(~ends, -torch.inf)
        where = nodes.new_full(shape, NOWHERE)
        where[beams, steps] = nodes
        scores = torch.cat([self.scores_found[self.users], ended.view(rows, -1)], 1)
        nodes = torch.cat([self.nodes_found[self.users], where.view(rows, -1)], 1)
        found, best = scores.topk(self.nodes_found.shape[1], 1)
        self.scores_found[self.users] = found
        self.nodes_found[self.users] = nodes.gather(1, best).masked_fill(
            found == -torch.inf, NOWHERE
        )

    def grow(self, num_beams: int, *, prune: bool) -> bool:
        """Every beam by every token that leads on; the best K of each user. False: none is left.

        Args:
            num_beams: K.
            prune: drop beams that cannot come among the results any more.
        """
        trie, rows = self.slot.trie, len(self.users)
        edges, allowed = trie.allowed(self.nodes[self.live])  # (n, W)
        tokens = trie.tokens.long()[edges] if len(trie.tokens) else edges
        grown = self.scores[self.live, None] + self.log_probabilities.gather(1, tokens)
        count = edges.shape[1]
        scores = grown.new_full((len(self.nodes), count), -torch.inf)
        scores[self.live] = grown.masked_fill(~allowed, -torch.inf)
        scores = scores.view(rows, -1)  # (R, k * W)
        best, at = scores.topk(min(num_beams, scores.shape[1]), 1)
        if prune:
            last = self.scores_found[self.users, -1]
            best = best.masked_fill(best <= last[:, None], -torch.inf)
        alive = best > -torch.inf  # topk sorts: dead beams stand last
        kept = alive.any(1).nonzero()[:, 0]
        if not len(kept):
            return False
        width = len(self.nodes) // rows
        best, at = (part[kept][:, alive.any(0)] for part in (best, at))
        beams = (kept[:, None] * width + at // count).flatten()
        places = torch.zeros_like(self.nodes)  # of live beams among themselves
        places[self.live] = torch.arange(len(self.live), device=self.device)
        chosen = edges[places[beams], at.flatten() % count]
        self.scores = best.flatten()
        self.tokens = trie.tokens.long()[chosen]
        self.nodes = (chosen + 1).masked_fill(self.scores == -torch.inf, NOWHERE)
        self.state = self.automaton.step(self.state.select(beams), self.tokens)
        self.intra = self.state.counts
        self.written = self.written[beams]
        if len(kept) < rows:
            self._keep(kept)
        return True

    def unbranched(self) -> bool:
        """Whether every live beam has one way to go on at most, all the way."""
        return bool(self.slot.trie.unbranched[self.nodes[self.live]].all())

    def read_on(self, *, prune: bool, max_tokens: int) -> None:
        """What is left of beams that cannot branch, all of it beside each other.

        Args:
            prune: leave out beams that cannot come among the results any more.
            max_tokens: of a row that are read at once.
        """
        rest = _rest(self.nodes[self.live], self.state.select(self.live), self.slot, self.automaton)
        owners = self.live // (len(self.nodes) // len(self.users))
        for chosen in chunks(rest.there.sum(1), owners, max_tokens):
            if prune:
                last = self.scores_found[self.users, -1][owners[chosen]]
                chosen = chosen[self.scores[self.live[chosen]] > last]
            chosen = chosen[rest.there[chosen].any(1)]
            if len(chosen):
                self._read(rest.select(chosen), chosen, owners[chosen])

    def _read(self, rest: _Rest, chosen: Tensor, owners: Tensor) -> None:
        """The rest of some live beams: ``chosen`` ``(n,)`` of them, in rows ``owners``."""
        beam, step = rest.there.nonzero(as_tuple=True)  # (P,) beam after beam
        beams, owner = self.live[chosen], owners[beam]
        written = self.written[beams]
        placed = side_by_side(owner, beam, step, rows=len(self.users))
        rows, width = placed.mask.shape[:2]
        tokens, nodes = rest.tokens[beam, step], rest.nodes[beam, step]
        places = Places(
            placed.column(tokens, self.backbone.special.pad),
            self.inter[:, None].expand(rows, width),
            placed.column(rest.intra[beam, step], 0),
            placed.column(self.order[owner] + written.shape[1] + step, 0),
        )
        own = self.real.new_zeros(len(beam), self.columns).scatter_(1, written[beam], True)
        seen = self.real.new_zeros(rows * width, self.columns).index_copy(0, placed.slots, own)
        prompt = self.real[:, None].expand(-1, width, -1)
        mask = torch.cat([prompt, seen.view(rows, width, -1), placed.mask], 2)[:, None]
        states = self.backbone.states(places, mask, self.cache).flatten(0, 1)
        self.cache.crop(-width)
        going = (step + 1 < rest.there.sum(1)[beam]).nonzero()[:, 0]
        ending = self.slot.trie.is_end(nodes).nonzero()[:, 0]
        asked = torch.cat([going, ending])
        end = torch.full_like(ending, self.backbone.special.end)
        targets = torch.cat([tokens[going + 1], end])
        losses = token_losses(self.backbone, states[placed.slots[asked]], targets)
        scores = torch.zeros_like(rest.tokens, dtype=torch.float32)  # (n, H)
        scores[:, 0] = self.scores[beams] + self.log_probabilities[chosen, rest.tokens[:, 0]]
        scores[beam[going], step[going] + 1] = -losses[: len(going)]
        scores = scores.cumsum(1)[beam[ending], step[ending]] - losses[len(going) :]
        self._compete(beams[beam[ending]], step[ending] + 1, nodes[ending], scores)

    def _keep(self, rows: Tensor) -> None:
        """Only these rows ``(n,)``; what beams are was chosen already."""
        self.users, self.real = self.users[rows], self.real[rows]
        self.inter, self.order = self.inter[rows], self.order[rows]
        self.cache.batch_select_indices(rows)


@dataclass(frozen=True)
class _Rest:
    """What is left of n beams, at most H tokens each: all ``(n, H)``."""

    tokens: Tensor
    nodes: Tensor
    intra: Tensor
    there: Tensor  # bool

    def select(self, beams: Tensor) -> _Rest:
        width = int(self.there[beams].sum(1).max())
        return _Rest(
            *(part[beams, :width] for part in (self.tokens, self.nodes, self.intra, self.there))
        )


def _rest(nodes: Tensor, state: AutomatonState, slot: Slot, automaton: Automaton) -> _Rest:
    """The only way on from nodes ``(n,)`` that do not branch."""
    found = []
    while True:
        edges, allowed = slot.trie.allowed(nodes)  # (n, 1)
        there = allowed[:, 0]
        if not bool(there.any()):
            break
        tokens = slot.trie.tokens.long()[edges[:, 0]]
        nodes = (edges[:, 0] + 1).masked_fill(~there, NOWHERE)
        state = automaton.step(state, tokens)
        found.append((tokens, nodes, state.counts, there))
    if not found:
        none = nodes[:, None][:, :0]
        return _Rest(none, none, none, none.bool())
    return _Rest(*(torch.stack(parts, 1) for parts in zip(*found, strict=True)))


def _barred(slot: Slot, excluded: Ragged) -> Tensor:
    """``user * nodes + node`` of what is no answer; a node goes only with all its entities."""
    trie = slot.trie
    owners = trie.ends.rows  # (n,) node of each surface
    keys = slot.keys[trie.ends.values]
    stride = int(slot.keys.max()) + 1 if slot.keys.numel() else 1
    users = torch.arange(len(excluded), device=keys.device)
    banned = excluded.rows * stride + excluded.values
    counts = trie.ends.lengths[owners]
    pair_user = users.repeat_interleave(len(keys))
    found = torch.isin(pair_user * stride + keys.repeat(len(users)), banned)
    at = pair_user * trie.num_nodes + owners.repeat(len(users))
    at, counts = at[found], counts.repeat(len(users))[found]
    places, hits = at.unique(return_counts=True)
    whole = counts.new_zeros(len(places))
    whole[torch.searchsorted(places, at)] = counts
    barred: Tensor = places[hits == whole]
    return barred
