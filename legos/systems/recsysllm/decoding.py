"""Filling blanks freely: greedy (or any choice of tokens), with a key-value cache.

RecSysLLM, section 3.3: blanks are filled from left to right, [END] closes one and is never fed
back. Positions of what is generated come from the automaton.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from legos.data.ragged import Ragged, from_lengths, join_rows
from legos.errors import DataError
from legos.systems.recsysllm.automaton import START_ID, Automaton, AutomatonState
from legos.systems.recsysllm.backbones.decoder import InfillBackbone
from legos.systems.recsysllm.positions import Places
from legos.systems.recsysllm.reading import (
    ReadPrompts,
    SideBySide,
    chunks,
    side_by_side,
    token_losses,
)

Choose = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Filled:
    """What was written into the blanks of N prompts, blank after blank.

    Attributes:
        tokens: S rows, in the order of ``Examples.masks``.
        intra: ``(P,)`` int64 the ids they were fed with.
        complete: ``(S,)`` bool: [END] was chosen before the budget ran out.
    """

    tokens: Ragged
    intra: Tensor
    complete: Tensor


def greedy(logits: Tensor) -> Tensor:
    """The best token: ``(n, V)`` -> ``(n,)``."""
    return logits.argmax(-1)


@torch.no_grad()
def fill_blanks(
    backbone: InfillBackbone,
    read: ReadPrompts,
    automaton: Automaton,
    *,
    max_new: int,
    choose: Choose = greedy,
) -> Filled:
    """Fill every blank of every prompt.

    Args:
        backbone: in evaluation mode.
        read: N prompts.
        automaton: of all entities.
        max_new: the most tokens of a blank, [END] not counted.
        choose: ``(n, V)`` scores -> ``(n,)`` tokens; special tokens but [END] have score -inf.
    """
    run, prompts = _Run(backbone, read, automaton), read.prompts
    counts = prompts.masks.lengths
    found: dict[tuple[int, int], tuple[Tensor, Tensor, bool]] = {}
    for number in range(int(counts.max()) if len(counts) else 0):
        active = counts > number
        at = (prompts.masks.offsets[:-1] + number).clamp(max=len(prompts.masks.values) - 1)
        run.begin(prompts.mask_inter.values[at], active)
        complete = run.generate(max_new, choose)
        for row in active.nonzero()[:, 0].tolist():
            tokens, intra = run.written(row)
            found[row, number] = (tokens, intra, bool(complete[row]))
    ordered = [found[key] for key in sorted(found)]
    lengths = torch.tensor([len(tokens) for tokens, _, _ in ordered], dtype=torch.int64)
    empty = prompts.tokens.new_zeros(0)
    return Filled(
        from_lengths(
            torch.cat([empty, *(tokens for tokens, _, _ in ordered)]), lengths.to(empty.device)
        ),
        torch.cat([empty, *(intra for _, intra, _ in ordered)]),
        torch.tensor([done for _, _, done in ordered], dtype=torch.bool),
    )


class _Run:
    """The cache and what has been fed to it, of B prompts side by side."""

    def __init__(
        self,
        backbone: InfillBackbone,
        read: ReadPrompts,
        automaton: Automaton,
    ) -> None:
        self.backbone, self.automaton = backbone, automaton
        self.special = backbone.special
        self.cache, self.real = read.cache(), read.real  # (B, K) what the cache holds
        self.order = read.prompts.prompt_lengths.clone()  # (B,) of the next token of each prompt

    def begin(self, inter: Tensor, active: Tensor) -> None:
        """Feed [START] at the masks ``(B,)`` of the prompts that still have one."""
        shape = (len(inter), 1)
        self.inter, self.going = inter, active.clone()
        self.tokens = torch.full(shape, self.special.start, device=inter.device)
        self.intra = torch.full(shape, START_ID, device=inter.device)
        self.fed = active[:, None].clone()  # (B, t) of this blank
        self.state: AutomatonState = self.automaton.start((len(inter),))
        self.base = self.order
        self.logits = self._feed()

    def generate(self, max_new: int, choose: Choose) -> Tensor:
        """Write until [END] everywhere; ``(B,)`` bool: it was reached."""
        complete = torch.zeros_like(self.going)
        for step in range(max_new + 1):
            scores = self.logits.float().clone()
            scores[:, self._never()] = -torch.inf
            tokens = choose(scores)
            ended = self.going & (tokens == self.special.end)
            complete |= ended
            self.going = self.going & ~ended
            if step == max_new or not bool(self.going.any()):
                break
            self._append(tokens)
        self.order = self.base + self.fed.sum(1)
        return complete

    def written(self, row: int) -> tuple[Tensor, Tensor]:
        """Tokens and their ids in the current blank of a prompt, without [START]."""
        kept = self.fed[row, 1:]
        return self.tokens[row, 1:][kept], self.intra[row, 1:][kept]

    def _append(self, tokens: Tensor) -> None:
        tokens = tokens.where(self.going, torch.full_like(tokens, self.special.pad))
        self.tokens = torch.cat([self.tokens, tokens[:, None]], 1)
        self.fed = torch.cat([self.fed, self.going[:, None]], 1)
        self.state = self.automaton.step(self.state, tokens)
        self.intra = torch.cat([self.intra, self.state.counts[:, None]], 1)
        logits = self._feed()
        self.logits = logits.where(self.going[:, None], self.logits)

    def _feed(self) -> Tensor:
        """The last column of the current blank -> scores after it: ``(B, V)``."""
        fed = self.fed[:, -1:]
        order = self.base[:, None] + self.fed.sum(1, keepdim=True) - 1
        places = Places(
            self.tokens[:, -1:], self.inter[:, None], self.intra[:, -1:], order.clamp(min=0)
        )
        mask = torch.cat([self.real, torch.ones_like(fed)], 1)[:, None, None]  # (B, 1, 1, K + 1)
        states = self.backbone.states(places, mask, self.cache)
        self.real = torch.cat([self.real, fed], 1)
        return self.backbone.logits(states[:, -1])

    def _never(self) -> Tensor:
        own = self.special
        ids = [own.mask, own.sentence_mask, own.document_mask, own.start]
        ids += [] if own.cls is None else [own.cls]
        return torch.tensor(ids, device=self.tokens.device)


@torch.no_grad()
def score_candidates(
    backbone: InfillBackbone,
    read: ReadPrompts,
    candidates: Ragged,
    owners: Tensor,
    automaton: Automaton,
    *,
    max_tokens: int = 1024,
) -> Tensor:
    """Log-probability of each candidate and [END] as the filling of its prompt's blank.

    Args:
        backbone: in evaluation mode.
        read: B prompts of one blank each.
        candidates: S rows of tokens, on its device.
        owners: ``(S,)`` int64 prompt of each, ascending.
        automaton: of all entities, on its device.
        max_tokens: candidate tokens of a prompt that are read at once: attention costs its square.

    Returns:
        ``(S,)`` float32; float64 of a backbone in float64.

    Raises:
        DataError: a prompt has not exactly one blank, or owners do not ascend.
    """
    if bool((owners.diff() < 0).any()):
        raise DataError("candidates: owners must ascend")
    blanks, cache = read.only_blanks(), read.cache()
    scores = torch.zeros(len(candidates), device=read.real.device)
    for chosen in chunks(candidates.lengths + 1, owners, max_tokens):
        owned = owners[chosen]
        part = _segments(backbone, read, blanks, candidates.select(chosen), owned, automaton)
        width = part.places.tokens.shape[1]
        seen = read.real[:, None, :].expand(-1, width, -1)
        mask = torch.cat([seen, part.placed.mask], -1)[:, None]  # (B, 1, W, A + W)
        states = backbone.states(part.places, mask, cache).flatten(0, 1)
        cache.crop(-width)
        losses = token_losses(backbone, states.index_select(0, part.placed.slots), part.targets)
        scores = scores.to(losses.dtype).index_add_(0, chosen[part.segments], -losses)
    return scores


@dataclass(frozen=True)
class _Segments:
    places: Places  # (B, W)
    placed: SideBySide  # P tokens
    targets: Tensor  # (P,)
    segments: Tensor  # (P,) candidate of each token


def _segments(
    backbone: InfillBackbone,
    read: ReadPrompts,
    blanks: Tensor,
    candidates: Ragged,
    owners: Tensor,
    automaton: Automaton,
) -> _Segments:
    special, prompts = backbone.special, read.prompts
    ones = torch.ones_like(owners)
    start = from_lengths(torch.full_like(owners, special.start), ones)
    end = from_lengths(torch.full_like(owners, special.end), ones)
    one = from_lengths(torch.full_like(owners, START_ID), ones)
    own = Ragged(candidates.values.long(), candidates.offsets)
    rows = join_rows([start, own])
    intra = join_rows([one, Ragged(automaton.number(own), own.offsets)]).values
    segment, inside = rows.rows, rows.positions
    owner = owners[segment]  # (P,) ascending
    placed = side_by_side(owner, segment, inside, rows=len(prompts))
    places = Places(
        placed.column(rows.values, special.pad),
        placed.column(blanks[owner], 0),
        placed.column(intra, 0),
        placed.column(prompts.prompt_lengths[owner] + inside, 0),
    )
    return _Segments(places, placed, join_rows([own, end]).values, segment)
