"""Beam search over entities.

The tree of valid entities lies on the device: what may follow is gathered from its arrays, for all
beams at once, and nothing of the vocabulary's size is made in Python. A prompt is read once and its
keys and values are never copied: beams are slots of its row. As soon as no beam can branch any
more, which with titles is after their first few words, what is left of all of them is read at once.
Every beam that may end competes with its [END]; transformers' search drops an end that is not among
the K best steps. Scores are the model's own probability, of which the paper says nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.systems.exclusion import Exclusion
from legos.systems.recsysllm.automaton import Automaton, AutomatonState
from legos.systems.recsysllm.backbones.decoder import Backbone
from legos.systems.recsysllm.decoding import ReadPrompts, chunks, side_by_side, token_losses
from legos.systems.recsysllm.positions import Inputs
from legos.systems.trie import NOWHERE, ROOT, Slot


class Ranked(NamedTuple):
    """The best entities of B prompts, the best first.

    Attributes:
        nodes: ``(B, K)`` int64 where they end in the slot's tree; ``NOWHERE``: there are fewer.
        scores: ``(B, K)`` float32 log-probability of the tokens and [END]; -inf where there are
            fewer.
    """

    nodes: Tensor
    scores: Tensor


@torch.no_grad()
def rank_entities(
    backbone: Backbone,
    read: ReadPrompts,
    slot: Slot,
    automaton: Automaton,
    *,
    num_beams: int,
    early_stop: bool = True,
    excluded: Ragged | None = None,
    max_tokens: int = 1024,
) -> Ranked:
    """The most likely entities for the (single) blank of each prompt.

    Args:
        read: B prompts of one blank each.
        slot: what may be written, on its device.
        num_beams: K; with at least as many as there are entities the ranking is exact.
        early_stop: drop beams that cannot come among the results any more, and end when none is
            left (exact: log-probabilities only fall).
        excluded: B rows of keys of the slot that are no answers; beams never enter a branch
            that holds nothing else.
        max_tokens: of a prompt's beams that are read at once: attention costs its square.

    Raises:
        DataError: a prompt has not exactly one blank.
    """
    exclusion = None if excluded is None else Exclusion.of(slot, excluded)
    search = _Search(backbone, read, slot, automaton, exclusion, num_beams, prune=early_stop)
    for _ in range(slot.trie.depth + 1):
        search.finish()
        if search.unbranched():
            search.read_on(max_tokens)
            break
        if not search.grow():
            break
        search.feed()
    return Ranked(search.best_nodes, search.best_scores)


class _Search:
    """Live beams and results.

    A user is a row, its beams are slots in it: R rows of k slots, flat. The keys and values of
    what beams wrote stand in the row behind the prompt, each once; the mask says which of them are
    a beam's own, so that nothing is copied when beams are chosen. Rows without live beams go.
    """

    def __init__(
        self,
        backbone: Backbone,
        read: ReadPrompts,
        slot: Slot,
        automaton: Automaton,
        exclusion: Exclusion | None,
        num_beams: int,
        *,
        prune: bool,
    ) -> None:
        self.backbone, self.slot, self.automaton = backbone, slot, automaton
        self.exclusion, self.num_beams, self.prune = exclusion, num_beams, prune
        self.inter, self.order = read.only_blanks(), read.prompts.prompt_lengths.clone()
        self.cache, self.real = read.cache(), read.real  # (R, A)
        users = len(self.order)
        self.users = torch.arange(users, device=self.real.device)  # (R,) of each row
        self.nodes = torch.full_like(self.users, ROOT)
        self.scores = torch.zeros(users, device=self.real.device)
        self.state = automaton.start((users,))
        self.tokens = torch.full_like(self.users, backbone.special.start)
        self.best_nodes = self.nodes.new_full((users, num_beams), NOWHERE)
        self.best_scores = self.scores.new_full((users, num_beams), -torch.inf)
        self.written = self.nodes.new_empty((users, 0))  # (R * k, t) columns of a beam's tokens
        self.columns = 0  # of all beams so far
        self.feed()

    @property
    def width(self) -> int:
        """k, beams a row."""
        return len(self.nodes) // len(self.users)

    def feed(self) -> None:
        """The last token of every beam -> log-probabilities after the n live ones, ``(n, V)``."""
        shape = (len(self.users), self.width)
        order = self.order[:, None] + self.written.shape[1]
        own = self.columns + torch.arange(shape[1], device=order.device).repeat(shape[0])
        self.written = torch.cat([self.written, own[:, None]], 1)
        self.columns += shape[1]
        inputs = Inputs(
            self.tokens.view(shape), self.inter[:, None].expand(shape),
            self.state.counts.view(shape), order.expand(shape),
        )  # fmt: skip
        seen = self.real.new_zeros(len(self.nodes), self.columns).scatter_(1, self.written, True)
        states = self._states(inputs, seen.view(*shape, -1))
        self.live = (self.scores > -torch.inf).nonzero()[:, 0]
        self.log_probabilities = self.backbone.logits(states[self.live]).float().log_softmax(-1)

    def _states(self, inputs: Inputs, *seen: Tensor) -> Tensor:
        """Flat states of rows that see their prompts and parts ``(R, W, ...)`` of what follows."""
        prompt = self.real[:, None].expand(-1, inputs.tokens.shape[1], -1)
        mask = torch.cat([prompt, *seen], 2)[:, None]
        return self.backbone.states(inputs, mask, self.cache).flatten(0, 1)

    def finish(self) -> None:
        """Let beams that may end compete with the results so far."""
        scores = self.scores[self.live] + self.log_probabilities[:, self.backbone.special.end]
        self._compete(self.live, torch.zeros_like(self.live), self.nodes[self.live], scores)

    def _compete(self, beams: Tensor, steps: Tensor, nodes: Tensor, scores: Tensor) -> None:
        """Enter beams ``(n,)`` that end at nodes after some steps, [END] included."""
        rows, ends = len(self.users), self.slot.trie.is_end(nodes)
        if self.exclusion is not None:
            ends = ends & ~self.exclusion.bars(self.users[beams // self.width], nodes)
        shape = (len(self.nodes), int(steps.max()) + 1)
        ended = scores.new_full(shape, -torch.inf)
        ended[beams, steps] = scores.masked_fill(~ends, -torch.inf)
        where = nodes.new_full(shape, NOWHERE)
        where[beams, steps] = nodes
        scores = torch.cat([self.best_scores[self.users], ended.view(rows, -1)], 1)
        nodes = torch.cat([self.best_nodes[self.users], where.view(rows, -1)], 1)
        best, at = scores.topk(self.num_beams, 1)
        self.best_scores[self.users] = best
        self.best_nodes[self.users] = nodes.gather(1, at).masked_fill(best == -torch.inf, NOWHERE)

    def grow(self) -> bool:
        """Extend beams by all possible tokens; keep each user's best K. False: none is left."""
        trie, rows, width = self.slot.trie, len(self.users), self.width
        nodes = self.nodes[self.live]
        edges, allowed = trie.allowed(nodes)  # (n, W)
        if self.exclusion is not None:
            self.exclusion.close(self.users[self.live // width], nodes, allowed)
        tokens = trie.tokens.long()[edges] if len(trie.tokens) else edges
        grown = self.scores[self.live, None] + self.log_probabilities.gather(1, tokens)
        count = edges.shape[1]
        scores = grown.new_full((len(self.nodes), count), -torch.inf)
        scores[self.live] = grown.masked_fill(~allowed, -torch.inf)
        scores = scores.view(rows, -1)  # (R, k * W)
        best, at = scores.topk(min(self.num_beams, scores.shape[1]), 1)
        if self.prune:
            last = self.best_scores[self.users, -1]
            best = best.masked_fill(best <= last[:, None], -torch.inf)
        alive = best > -torch.inf  # topk sorts: dead beams stand last
        kept = alive.any(1).nonzero()[:, 0]
        if not len(kept):
            return False
        best, at = (part[kept][:, alive.any(0)] for part in (best, at))
        beams = (kept[:, None] * width + at // count).flatten()
        nth = torch.zeros_like(self.nodes)  # of live beams among themselves
        nth[self.live] = torch.arange(len(self.live), device=nth.device)
        chosen = edges[nth[beams], at.flatten() % count]
        self.scores = best.flatten()
        self.tokens = trie.tokens.long()[chosen]
        self.nodes = (chosen + 1).masked_fill(self.scores == -torch.inf, NOWHERE)
        self.state = self.automaton.step(self.state.select(beams), self.tokens)
        self.written = self.written[beams]
        if len(kept) < rows:
            self.users, self.real = self.users[kept], self.real[kept]
            self.inter, self.order = self.inter[kept], self.order[kept]
            self.cache.batch_select_indices(kept)
        return True

    def unbranched(self) -> bool:
        """Whether no live beam branches any more."""
        return bool(self.slot.trie.unbranched[self.nodes[self.live]].all())

    def read_on(self, max_tokens: int) -> None:
        """Read the remaining tokens of beams that cannot branch, in one pass."""
        rest = _rest(self.nodes[self.live], self.state.select(self.live), self.slot, self.automaton)
        lengths = (rest[1] != NOWHERE).sum(1)  # (n,)
        owners = self.live // self.width
        for chosen in chunks(lengths, owners, max_tokens):
            if self.prune:
                last = self.best_scores[self.users, -1][owners[chosen]]
                chosen = chosen[self.scores[self.live[chosen]] > last]
            chosen = chosen[lengths[chosen] > 0]
            if len(chosen):
                self._read(rest[:, chosen, : int(lengths[chosen].max())], chosen, owners[chosen])

    def _read(self, rest: Tensor, chosen: Tensor, owners: Tensor) -> None:
        """The rest ``(3, n, H)`` of some live beams: ``chosen`` ``(n,)`` of them, in rows."""
        there = rest[1] != NOWHERE
        beam, step = there.nonzero(as_tuple=True)  # (P,) beam after beam
        tokens, nodes, intra = rest[:, beam, step]
        beams, owner = self.live[chosen], owners[beam]
        written = self.written[beams]
        placed = side_by_side(owner, beam, step, rows=len(self.users))
        rows, width = placed.mask.shape[:2]
        inputs = Inputs(
            placed.column(tokens, self.backbone.special.pad),
            self.inter[:, None].expand(rows, width),
            placed.column(intra, 0),
            placed.column(self.order[owner] + written.shape[1] + step, 0),
        )
        own = self.real.new_zeros(len(beam), self.columns).scatter_(1, written[beam], True)
        seen = self.real.new_zeros(rows * width, self.columns).index_copy(0, placed.slots, own)
        states = self._states(inputs, seen.view(rows, width, -1), placed.mask)
        self.cache.crop(-width)
        going = (step + 1 < there.sum(1)[beam]).nonzero()[:, 0]
        ending = self.slot.trie.is_end(nodes).nonzero()[:, 0]
        asked = torch.cat([going, ending])
        end = torch.full_like(ending, self.backbone.special.end)
        targets = torch.cat([tokens[going + 1], end])
        losses = token_losses(self.backbone, states[placed.slots[asked]], targets)
        scores = torch.zeros_like(rest[0], dtype=torch.float32)  # (n, H)
        scores[:, 0] = self.scores[beams] + self.log_probabilities[chosen, rest[0, :, 0]]
        scores[beam[going], step[going] + 1] = -losses[: len(going)]
        scores = scores.cumsum(1)[beam[ending], step[ending]] - losses[len(going) :]
        self._compete(beams[beam[ending]], step[ending] + 1, nodes[ending], scores)


def _rest(nodes: Tensor, state: AutomatonState, slot: Slot, automaton: Automaton) -> Tensor:
    """The remaining tokens after nodes ``(n,)`` that do not branch.

    Returns:
        ``(3, n, H)`` int64: tokens, nodes and intra-positions; nodes are ``NOWHERE`` behind the
        end.
    """
    steps = [nodes.new_empty((3, len(nodes), 0))]
    while True:
        edges, allowed = slot.trie.allowed(nodes)  # (n, 1)
        if not bool(allowed.any()):
            return torch.cat(steps, 2)
        tokens = slot.trie.tokens.long()[edges[:, 0]]
        nodes = (edges[:, 0] + 1).masked_fill(~allowed[:, 0], NOWHERE)
        state = automaton.step(state, tokens)
        steps.append(torch.stack([tokens, nodes, state.counts])[:, :, None])
