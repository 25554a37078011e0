"""Prompts read once: their keys and values, for all that is asked about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from legos.data.ragged import Ragged, from_lengths
from legos.errors import DataError
from legos.lm.word_model import MAX_LOGITS
from legos.systems.recsysllm.backbones.decoder import InfillBackbone, new_cache
from legos.systems.recsysllm.positions import IGNORE, Examples, Layout, Side, lay_out


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
