"""Beam search that can write nothing but entities.

The tree of valid entities lies on the device: what may follow is gathered from its arrays, for all
beams at once, and nothing of the vocabulary's size is made in Python. A prompt is read once and its
keys and values are never copied: beams are places of its row. Every beam that may end competes with
its [END]; transformers' search drops an end that is not among the K best steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.errors import DataError
from legos.recsysllm.automaton import START_ID, Automaton
from legos.recsysllm.backbone import InfillBackbone
from legos.recsysllm.entities import Slot
from legos.recsysllm.layout import Places
from legos.recsysllm.reading import ReadPrompts
from legos.recsysllm.trie import NOWHERE, ROOT


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
            probability (A24).
        early_stop: drop beams that cannot come among the results any more, and end when none is
            left (exact: log-probabilities only fall; without effect under a length penalty).
        excluded: B rows of keys of the slot that are no answers.

    Raises:
        DataError: a prompt has not exactly one blank.
    """
    if not bool((read.prompts.masks.lengths == 1).all()):
        raise DataError("constrained search: every prompt needs exactly one blank")
    search = _Search(backbone, read, slot, automaton)
    search.barred = None if excluded is None else _barred(slot, excluded)
    search.penalty = length_penalty
    wanted = num_results or num_beams
    search.start(wanted)
    for _ in range(slot.trie.depth + 1):
        search.finish(wanted)
        if not search.grow(num_beams, prune=early_stop and length_penalty == 0):
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
        self.device, prompts = read.real.device, read.prompts
        self.inter, self.order = prompts.mask_inter.values, prompts.prompt_lengths.clone()
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

    def finish(self, wanted: int) -> None:
        """Beams that may end compete with the results so far."""
        nodes, rows = self.nodes[self.live], len(self.users)
        ends = self.slot.trie.is_end(nodes)
        if self.barred is not None:
            user = self.users.repeat_interleave(len(self.nodes) // rows)[self.live]
            ends = ends & ~torch.isin(user * self.slot.trie.num_nodes + nodes, self.barred)
        scores = self.scores[self.live] + self.log_probabilities[:, self.backbone.special.end]
        if self.penalty:
            scores = scores / self.written.shape[1] ** self.penalty  # its tokens and [END]
        ended = torch.full_like(self.scores, -torch.inf)
        ended[self.live] = scores.masked_fill(~ends, -torch.inf)
        scores = torch.cat([self.scores_found[self.users], ended.view(rows, -1)], 1)
        nodes = torch.cat([self.nodes_found[self.users], self.nodes.view(rows, -1)], 1)
        found, best = scores.topk(wanted, 1)
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

    def _keep(self, rows: Tensor) -> None:
        """Only these rows ``(n,)``; what beams are was chosen already."""
        self.users, self.real = self.users[rows], self.real[rows]
        self.inter, self.order = self.inter[rows], self.order[rows]
        self.cache.batch_select_indices(rows)


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
