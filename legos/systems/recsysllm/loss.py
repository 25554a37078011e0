"""The objective: likelihood of what fills the blanks (RecSysLLM, equation 1).

Only states of Part B meet the head: Part A is most of the tokens and the vocabulary is large. The
logits of the last chunk are kept, those of chunks before it are made again in the backward pass.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from legos.data.ragged import Ragged
from legos.systems.recsysllm.backbones.decoder import InfillBackbone
from legos.systems.recsysllm.positions.layout import Layout
from legos.systems.recsysllm.positions.positions import IGNORE, Examples

Reduction = Literal["tokens", "examples"]
MAX_LOGITS = 2**24  # held at once: 64 MB


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
