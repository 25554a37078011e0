"""Decoding after prompts that are read once: free filling of blanks, scores of candidates.

RecSysLLM, section 3.3: blanks are filled from left to right, [END] closes one and is never fed
back. Positions of what is generated come from the automaton.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from legos.data.ragged import Ragged, from_lengths, stack
from legos.errors import DataError
from legos.lm.word_model import MAX_LOGITS
from legos.systems.recsysllm.automaton import START_ID, Automaton
from legos.systems.recsysllm.backbones.decoder import Backbone, new_cache
from legos.systems.recsysllm.positions import (
    Examples,
    Inputs,
    in_slots,
    lay_out,
    with_ends,
)


@dataclass(frozen=True)
class ReadPrompts:
    """B prompts with their keys and values.

    Attributes:
        prompts: Part A alone.
        real: ``(B, A)`` bool: a token, not a free slot.
        held: keys and values; never changed.
    """

    prompts: Examples
    real: Tensor
    held: Any

    def cache(self) -> Any:
        """A cache that starts with the prompts."""
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
    backbone: Backbone, prompts: Examples, *, bidirectional: bool = True
) -> ReadPrompts:
    """Read B prompts, Part A alone, on the device of a backbone in evaluation mode."""
    layout = lay_out(prompts, pad=backbone.special.pad, bidirectional=bidirectional)
    cache = new_cache()
    backbone.states(layout.inputs, layout.mask, cache)
    return ReadPrompts(prompts, layout.real, cache)


@dataclass(frozen=True)
class SideBySide:
    """P tokens of continuations of R prompts in rows of W slots.

    Attributes:
        slots: ``(P,)`` int64 which of the R * W slots each token has.
        mask: ``(R, W, W)`` bool: a token sees those of its continuation up to itself.
    """

    slots: Tensor
    mask: Tensor

    def column(self, values: Tensor, free: int) -> Tensor:
        """One value a token, ``(P,)`` int64 -> ``(R, W)``, ``free`` where no token stands."""
        return in_slots(values, self.slots, self.mask.shape[:2], free)


def side_by_side(owners: Tensor, segments: Tensor, inside: Tensor, *, rows: int) -> SideBySide:
    """Lay continuations side by side in rows.

    Args:
        owners: ``(P,)`` int64 row of each token, ascending.
        segments: ``(P,)`` int64 which continuation it belongs to.
        inside: ``(P,)`` int64 its position in that.
        rows: R.
    """
    counts = torch.bincount(owners, minlength=rows)
    shape = torch.Size((rows, int(counts.max())))
    slots = owners * shape[1] + from_lengths(owners, counts).positions
    number, order = in_slots(segments, slots, shape, -1), in_slots(inside, slots, shape, 0)
    own = number[:, :, None] == number[:, None, :]
    return SideBySide(slots, own & (order[:, None, :] <= order[:, :, None]))


def chunks(lengths: Tensor, owners: Tensor, max_tokens: int) -> list[Tensor]:
    """Split continuations into groups of limited size that are read together.

    Args:
        lengths: ``(S,)`` int64 tokens of each.
        owners: ``(S,)`` int64 row of each, ascending.
        max_tokens: of a row; at least one continuation is read.
    """
    before = lengths.cumsum(0) - lengths
    number = (before - before[torch.searchsorted(owners, owners)]) // max_tokens
    return [(number == chunk).nonzero()[:, 0] for chunk in number.unique()]


def token_losses(
    backbone: Backbone, states: Tensor, targets: Tensor, *, max_logits: int = MAX_LOGITS
) -> Tensor:
    """``-log softmax(logits)[target]`` of every state.

    Args:
        states: ``(M, D)``.
        targets: ``(M,)`` int64.
        max_logits: logits held at once; at least one state is done at a time.

    Returns:
        ``(M,)`` fp32; float64 of a backbone in float64.
    """

    def precise(values: Tensor) -> Tensor:
        return values if values.dtype == torch.float64 else values.float()

    def chunk_losses(chunk: Tensor, wanted: Tensor) -> Tensor:
        logits = precise(backbone.logits(chunk))
        return functional.cross_entropy(logits, wanted, reduction="none")

    if not len(states):
        return precise(states.sum(-1))
    step = max(1, max_logits // backbone.num_tokens)
    pieces, last = [], (len(states) - 1) // step
    for at, (chunk, wanted) in enumerate(zip(states.split(step), targets.split(step), strict=True)):
        if torch.is_grad_enabled() and at < last:
            pieces.append(checkpoint(chunk_losses, chunk, wanted, use_reentrant=False))
        else:
            pieces.append(chunk_losses(chunk, wanted))
    return torch.cat(pieces)


@dataclass(frozen=True)
class Filled:
    """Generated texts of the blanks of N prompts, blank after blank.

    Attributes:
        tokens: S rows, in the order of ``Examples.masks``.
        intra: ``(P,)`` int64 the ids they were fed with.
        complete: ``(S,)`` bool: an end was chosen before the budget ran out.
    """

    tokens: Ragged
    intra: Tensor
    complete: Tensor


@torch.no_grad()
def fill_blanks(
    backbone: Backbone,
    read: ReadPrompts,
    automaton: Automaton,
    *,
    max_new: int,
    choose: Callable[[Tensor], Tensor] = lambda scores: scores.argmax(-1),
) -> Filled:
    """Fill every blank of every prompt.

    Args:
        read: N prompts, at least one.
        max_new: the most tokens of a blank, [END] not counted.
        choose: ``(n, V)`` scores -> ``(n,)`` tokens; special tokens but [END] have score -inf.
    """
    writer, masks = _Writer(backbone, read, automaton), read.prompts.mask_inter
    tokens, intra, complete, owners = [], [], [], []
    for number in range(int(masks.lengths.max())):
        active = masks.lengths > number
        at = (masks.offsets[:-1] + number).clamp(max=len(masks.values) - 1)
        rows, ids, ended = writer.fill(masks.values[at], active, max_new, choose)
        tokens.append(rows)
        intra.append(ids)
        complete.append(ended[active].cpu())
        owners.append(active.nonzero()[:, 0])
    order = torch.cat(owners).argsort(stable=True)
    return Filled(
        stack(tokens).select(order), stack(intra).select(order).values,
        torch.cat(complete)[order.cpu()],
    )  # fmt: skip


class _Writer:
    """The cache and what has been fed to it, of B prompts side by side."""

    def __init__(self, backbone: Backbone, read: ReadPrompts, automaton: Automaton) -> None:
        self.backbone, self.automaton = backbone, automaton
        self.cache, self.real = read.cache(), read.real  # (B, K) what the cache holds
        self.order = read.prompts.prompt_lengths.clone()  # (B,) of the next token of each prompt
        special = backbone.special
        never = [*special.masks, special.start, *([] if special.cls is None else [special.cls])]
        self.never = torch.tensor(never, device=self.real.device)
        self.ends = torch.tensor(backbone.ends, device=self.real.device)

    def fill(
        self, inter: Tensor, active: Tensor, max_new: int, choose: Callable[[Tensor], Tensor]
    ) -> tuple[Ragged, Ragged, Tensor]:
        """Write into one blank of every active prompt ``(B,)``, whose mask stands at ``inter``.

        Returns:
            tokens and their ids, a row an active prompt, and whether each of B reached [END].
        """
        special, going = self.backbone.special, active
        complete = torch.zeros_like(active)
        state = self.automaton.start((len(active),))
        tokens = torch.full_like(inter, special.start)[:, None]  # (B, t) of this blank
        intra, fed = state.counts[:, None], active[:, None]
        for step in range(max_new + 1):
            inputs = Inputs(tokens[:, -1:], inter[:, None], intra[:, -1:], self.order[:, None])
            seen = torch.cat([self.real, torch.ones_like(fed[:, -1:])], 1)
            states = self.backbone.states(inputs, seen[:, None, None], self.cache)
            self.real = torch.cat([self.real, fed[:, -1:]], 1)
            self.order = self.order + going
            scores = self.backbone.logits(states[:, -1]).float().clone()
            scores[:, self.never] = -torch.inf
            chosen = choose(scores)
            complete = complete | (going & torch.isin(chosen, self.ends))
            going = going & ~complete
            if step == max_new or not bool(going.any()):
                break
            chosen = chosen.where(going, torch.full_like(chosen, special.pad))
            state = self.automaton.step(state, chosen)
            tokens = torch.cat([tokens, chosen[:, None]], 1)
            intra = torch.cat([intra, state.counts[:, None]], 1)
            fed = torch.cat([fed, going[:, None]], 1)
        kept = fed[active, 1:]
        written, ids = (each[active, 1:][kept] for each in (tokens, intra))
        return from_lengths(written, kept.sum(1)), from_lengths(ids, kept.sum(1)), complete


@torch.no_grad()
def score_candidates(
    backbone: Backbone,
    read: ReadPrompts,
    candidates: Ragged,
    owners: Tensor,
    automaton: Automaton,
    *,
    max_tokens: int = 1024,
) -> Tensor:
    """Log-probability of each candidate and [END] as the filling of its prompt's blank.

    Args:
        read: B prompts of one blank each.
        candidates: S rows of tokens, on its device.
        owners: ``(S,)`` int64 prompt of each, ascending.
        max_tokens: candidate tokens of a prompt that are read at once: attention costs its square.

    Returns:
        ``(S,)`` float32; float64 of a backbone in float64.

    Raises:
        DataError: a prompt has not exactly one blank, or owners do not ascend.
    """
    if bool((owners.diff() < 0).any()):
        raise DataError("candidates: owners must ascend")
    special, blanks, cache = backbone.special, read.only_blanks(), read.cache()
    scores = torch.zeros(len(candidates), device=read.real.device)
    for chosen in chunks(candidates.lengths + 1, owners, max_tokens):
        own = candidates.select(chosen)
        own = Ragged(own.values.long(), own.offsets)
        tokens = with_ends(own, first=special.start)
        intra = with_ends(Ragged(automaton.number(own), own.offsets), first=START_ID)
        segment, inside = tokens.rows, tokens.positions
        owner = owners[chosen][segment]  # (P,) ascending
        placed = side_by_side(owner, segment, inside, rows=len(blanks))
        inputs = Inputs(
            placed.column(tokens.values, special.pad),
            placed.column(blanks[owner], 0),
            placed.column(intra.values, 0),
            placed.column(read.prompts.prompt_lengths[owner] + inside, 0),
        )
        width = placed.mask.shape[1]
        seen = read.real[:, None, :].expand(-1, width, -1)
        mask = torch.cat([seen, placed.mask], -1)[:, None]  # (B, 1, W, A + W)
        states = backbone.states(inputs, mask, cache).flatten(0, 1)
        cache.crop(-width)
        targets = with_ends(own, last=special.end).values
        losses = token_losses(backbone, states.index_select(0, placed.slots), targets)
        scores = scores.to(losses.dtype).index_add_(0, chosen[segment], -losses)
    return scores
