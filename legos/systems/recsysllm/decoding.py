"""Prompts read once; then blanks filled freely, or candidates scored, over their keys and values.

RecSysLLM, section 3.3: blanks are filled from left to right, [END] closes one and is never fed
back. Positions of what is generated come from the automaton.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from legos.data.ragged import Ragged, from_lengths, join_rows
from legos.errors import DataError
from legos.lm.word_model import MAX_LOGITS
from legos.systems.recsysllm.automaton import START_ID, Automaton, AutomatonState
from legos.systems.recsysllm.backbones.decoder import InfillBackbone, new_cache
from legos.systems.recsysllm.positions import IGNORE, Examples, Layout, Places, Side, lay_out


@dataclass(frozen=True)
class ReadPrompts:
    """B prompts and what a backbone made of them.

    Attributes:
        prompts: Part A alone.
        real: ``(B, A)`` bool: a token, not a free place.
        held: keys and values; never changed.
    """

    prompts: Examples
    real: Tensor
    held: Any

    def cache(self) -> Any:
        """A cache that begins with the prompts, for whoever goes on."""
        own = new_cache()
        for number, layer in enumerate(self.held.layers):
            own.update(layer.keys, layer.values, number)
        return own

    def only_blanks(self) -> Tensor:
        """Inter-position of the one blank of each prompt, ``(B,)`` int64.

        Raises:
            DataError: a prompt has none or several.
        """
        wrong = (self.prompts.masks.lengths != 1).nonzero()[:, 0]
        if len(wrong):
            row = int(wrong[0])
            raise DataError(
                f"prompt {row}: {int(self.prompts.masks.lengths[row])} blanks, expected exactly one"
            )
        return self.prompts.mask_inter.values


@torch.no_grad()
def read_prompts(
    backbone: InfillBackbone, prompts: Examples, *, side: Side = "right", bidirectional: bool = True
) -> ReadPrompts:
    """Read prompts side by side.

    Args:
        backbone: in evaluation mode.
        prompts: B, Part A alone, on its device.
        side: where they are padded.
        bidirectional: as in training.
    """
    layout = lay_out(prompts, pad=backbone.special.pad, side=side, bidirectional=bidirectional)
    cache = new_cache()
    backbone.states(layout.places, layout.mask, cache)
    return ReadPrompts(prompts, layout.real, cache)


@dataclass(frozen=True)
class SideBySide:
    """Where P tokens of continuations of R prompts stand in rows of W places.

    Attributes:
        slots: ``(P,)`` int64 place of each token in R * W.
        mask: ``(R, W, W)`` bool: a token sees those of its continuation up to itself.
    """

    slots: Tensor
    mask: Tensor

    def column(self, values: Tensor, free: int) -> Tensor:
        """One value a token, ``(P,)`` int64 -> ``(R, W)``, ``free`` where no token stands."""
        return _column(values, self.slots, self.mask.shape[:2], free)


def side_by_side(owners: Tensor, segments: Tensor, inside: Tensor, *, rows: int) -> SideBySide:
    """Place tokens.

    Args:
        owners: ``(P,)`` int64 row of each token, ascending.
        segments: ``(P,)`` int64 which continuation it belongs to.
        inside: ``(P,)`` int64 its place in that.
        rows: R.
    """
    counts = torch.bincount(owners, minlength=rows)
    width = int(counts.max())
    slots = owners * width + from_lengths(owners, counts).positions
    shape = torch.Size((rows, width))
    number = _column(segments, slots, shape, -1)
    order = _column(inside, slots, shape, 0)
    own = number[:, :, None] == number[:, None, :]
    return SideBySide(slots, own & (order[:, None, :] <= order[:, :, None]))


def chunks(lengths: Tensor, owners: Tensor, max_tokens: int) -> list[Tensor]:
    """Continuations that are read together: of each row as many as have so many tokens.

    Args:
        lengths: ``(S,)`` int64 tokens of each.
        owners: ``(S,)`` int64 row of each, ascending.
        max_tokens: of a row; at least one continuation is read.
    """
    ends = lengths.cumsum(0)
    first = torch.searchsorted(owners, owners)  # of the same row
    before = ends - lengths - (ends - lengths)[first]
    number = before // max_tokens
    return [(number == chunk).nonzero()[:, 0] for chunk in number.unique()]


def _column(values: Tensor, slots: Tensor, shape: torch.Size, free: int) -> Tensor:
    flat = torch.full((shape.numel(),), free, dtype=torch.int64, device=slots.device)
    return flat.index_copy(0, slots, values).view(shape)


Reduction = Literal["tokens", "examples"]


def infill_loss(
    backbone: InfillBackbone,
    examples: Examples,
    layout: Layout,
    *,
    reduction: Reduction = "tokens",
) -> Tensor:
    """Mean negative log-likelihood of the tokens and [END] of all blanks.

    Args:
        backbone: the model.
        examples: N, on its device.
        layout: of these examples.
        reduction: ``tokens``: every target counts the same (GLM); ``examples``: every example does
            (P5).

    Returns:
        fp32 scalar; 0 without targets.
    """
    at = (examples.targets != IGNORE).nonzero()[:, 0]
    states = backbone.states(layout.places, layout.mask)
    chosen = states.flatten(0, 1).index_select(0, layout.slots[at])  # (M, D)
    losses = token_losses(backbone, chosen, examples.targets[at])
    if not len(at):
        return losses.sum()
    if reduction == "tokens":
        return losses.mean()
    rows = Ragged(examples.tokens, examples.offsets).rows[at]
    counts = torch.bincount(rows, minlength=len(examples))
    weights = 1.0 / (counts[rows] * (counts > 0).sum())
    return (losses * weights).sum()


def token_losses(
    backbone: InfillBackbone, states: Tensor, targets: Tensor, *, max_logits: int = MAX_LOGITS
) -> Tensor:
    """``-log softmax(logits)[target]`` of every state.

    Args:
        backbone: whose head.
        states: ``(M, D)``.
        targets: ``(M,)`` int64.
        max_logits: logits held at once; at least one state is done at a time.

    Returns:
        ``(M,)`` fp32; float64 of a backbone in float64.
    """

    def chunk_losses(chunk: Tensor, wanted: Tensor) -> Tensor:
        logits = _precise(backbone.logits(chunk))
        return functional.cross_entropy(logits, wanted, reduction="none")

    if not len(states):
        return _precise(states.sum(-1))
    step = max(1, max_logits // backbone.num_tokens)
    pieces, last = [], (len(states) - 1) // step
    for at, (chunk, wanted) in enumerate(zip(states.split(step), targets.split(step), strict=True)):
        if torch.is_grad_enabled() and at < last:
            pieces.append(checkpoint(chunk_losses, chunk, wanted, use_reentrant=False))
        else:
            pieces.append(chunk_losses(chunk, wanted))
    return torch.cat(pieces)


def _precise(values: Tensor) -> Tensor:
    """In float32 at least."""
    return values if values.dtype == torch.float64 else values.float()


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
