"""Beam search that can write nothing but entities.

The tree of valid entities lies on the device: what may follow is gathered from its arrays, for all
beams at once, and nothing of the vocabulary's size is made in Python. The prompt is read once; its
keys and values, the automaton's states and the positions go with the beams. Every beam that may end
competes with its [END]; transformers' search drops an end that is not among the K best steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.errors import DataError
from legos.recsysllm.automaton import START_ID, Automaton
from legos.recsysllm.backbone import InfillBackbone, new_cache
from legos.recsysllm.entities import Slot
from legos.recsysllm.layout import Places, lay_out
from legos.recsysllm.positions import Examples
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
    prompts: Examples,
    slot: Slot,
    automaton: Automaton,
    *,
    num_beams: int,
    num_results: int | None = None,
    length_penalty: float = 0.0,
    early_stop: bool = True,
    excluded: Ragged | None = None,
    bidirectional: bool = True,
) -> Ranked:
    """The most likely entities for the (single) blank of each prompt.

    Args:
        backbone: in evaluation mode.
        prompts: B, Part A alone, one blank each, on its device.
        slot: what may be written, on its device.
        automaton: of all entities, on its device.
        num_beams: K; with at least as many as there are entities the ranking is exact.
        num_results: how many are asked for; K by default.
        length_penalty: scores are divided by the number of tokens to this power; 0: the model's own
            probability (A24).
        early_stop: end when no beam can come among the results any more (exact: log-probabilities
            only fall; without effect under a length penalty).
        excluded: B rows of keys of the slot that are no answers.
        bidirectional: as in training.

    Raises:
        DataError: a prompt has not exactly one blank.
    """
    if not bool((prompts.masks.lengths == 1).all()):
        raise DataError("constrained search: every prompt needs exactly one blank")
    search = _Search(backbone, prompts, slot, automaton, bidirectional)
    search.barred = None if excluded is None else _barred(slot, excluded)
    search.penalty = length_penalty
    wanted = num_results or num_beams
    search.start(wanted)
    for _ in range(slot.trie.depth + 1):
        search.finish(wanted)
        if not search.grow(num_beams):
            break
        if early_stop and length_penalty == 0 and search.decided():
            break
        search.feed()
    return Ranked(search.nodes_found, search.scores_found)


class _Search:
    """Live beams and results; rows are beams, user after user, k of each."""

    barred: Tensor | None
    penalty: float

    def __init__(
        self,
        backbone: InfillBackbone,
        prompts: Examples,
        slot: Slot,
        automaton: Automaton,
        bidirectional: bool,
    ) -> None:
        self.backbone, self.slot, self.automaton = backbone, slot, automaton
        self.users, self.device = len(prompts), prompts.tokens.device
        self.inter, self.order = prompts.mask_inter.values, prompts.prompt_lengths.clone()
        layout = lay_out(prompts, pad=backbone.special.pad, bidirectional=bidirectional)
        self.cache: Any = new_cache()
        backbone.states(layout.places, layout.mask, self.cache)
        self.real = layout.real  # (B, A)
        self.generated = 0  # tokens fed after the prompt

    def start(self, wanted: int) -> None:
        """One beam a user, [START] fed."""
        shape = (self.users,)
        self.nodes = torch.full(shape, ROOT, dtype=torch.int64, device=self.device)
        self.scores = torch.zeros(shape, device=self.device)
        self.state = self.automaton.start(shape)
        self.tokens = torch.full(shape, self.backbone.special.start, device=self.device)
        self.owner = torch.arange(self.users, device=self.device)
        self.nodes_found = self.nodes.new_full((self.users, wanted), NOWHERE)
        self.scores_found = self.scores.new_full((self.users, wanted), -torch.inf)
        self.intra = torch.full(shape, START_ID, dtype=torch.int64, device=self.device)
        self.feed()

    def feed(self) -> None:
        """The last token of every beam -> log-probabilities of what follows, ``(B * k, V)``."""
        places = Places(
            self.tokens[:, None],
            self.inter[self.owner, None],
            self.intra[:, None],
            (self.order[self.owner] + self.generated)[:, None],
        )
        self.generated += 1
        seen = self.real[self.owner]
        own = seen.new_ones(len(seen), self.generated)
        mask = torch.cat([seen, own], 1)[:, None, None]  # (B * k, 1, 1, A + generated)
        states = self.backbone.states(places, mask, self.cache)
        self.log_probabilities = self.backbone.logits(states[:, -1]).float().log_softmax(-1)

    def finish(self, wanted: int) -> None:
        """Beams that may end compete with the results so far."""
        ends = self.slot.trie.is_end(self.nodes)
        if self.barred is not None:
            key = self.owner * self.slot.trie.num_nodes + self.nodes
            ends = ends & ~torch.isin(key, self.barred)
        scores = self.scores + self.log_probabilities[:, self.backbone.special.end]
        if self.penalty:
            scores = scores / self.generated**self.penalty  # its tokens and [END]
        scores = scores.masked_fill(~ends, -torch.inf).view(self.users, -1)
        scores = torch.cat([self.scores_found, scores], 1)
        nodes = torch.cat([self.nodes_found, self.nodes.view(self.users, -1)], 1)
        self.scores_found, best = scores.topk(wanted, 1)
        self.nodes_found = nodes.gather(1, best).masked_fill(
            self.scores_found == -torch.inf, NOWHERE
        )

    def grow(self, num_beams: int) -> bool:
        """Every beam by every token that leads on; the best K of each user. False: none is left."""
        trie = self.slot.trie
        edges, allowed = trie.allowed(self.nodes)  # (B * k, W)
        tokens = trie.tokens.long()[edges] if len(trie.tokens) else edges
        scores = self.scores[:, None] + self.log_probabilities.gather(1, tokens)
        scores = scores.masked_fill(~allowed, -torch.inf).view(self.users, -1)  # (B, k * W)
        width, before = edges.shape[1], len(self.nodes) // self.users
        best, at = scores.topk(min(num_beams, scores.shape[1]), 1)
        alive = (best > -torch.inf).any(0)  # topk sorts: dead beams stand last
        best, at = best[:, alive], at[:, alive]
        if not best.shape[1]:
            return False
        first = torch.arange(self.users, device=self.device)[:, None] * before
        beams = (first + at // width).flatten()
        chosen = edges.view(self.users, -1).gather(1, at).flatten()
        self.scores = best.flatten()
        dead = self.scores == -torch.inf
        self.tokens = trie.tokens.long()[chosen]
        self.nodes = (chosen + 1).masked_fill(dead, NOWHERE)
        self.owner = self.owner[beams]
        self.state = self.automaton.step(self.state.select(beams), self.tokens)
        self.intra = self.state.counts
        self.cache.reorder_cache(beams)
        return True

    def decided(self) -> bool:
        """Whether no beam can come among the results any more, for any user."""
        best = self.scores.view(self.users, -1).amax(1)
        return bool((best <= self.scores_found[:, -1]).all())


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
