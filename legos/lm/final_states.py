"""One vector a text: the final states of a language model, pooled over the text's tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from legos.data.ragged import Ragged
from legos.lm.states import similar_batches
from legos.lm.text_model import call_options, padding_id

Pooling = Literal["mean", "first", "last"]


@torch.no_grad()
def pooled_final_states(
    model: nn.Module,
    tokens: Ragged,
    *,
    pooling: Pooling,
    batch_tokens: int = 16_384,
    advance: Callable[[int], None] = lambda count: None,
) -> Tensor:
    """Texts of N items -> ``(N, E)`` float32 on the CPU; NaN for an item without tokens.

    Args:
        model: a language model without head, on its device, in evaluation mode.
        tokens: ids of N items.
        pooling: mean of an item's tokens, its first one or its last one.
        batch_tokens: tokens read at once, padding included.
        advance: told how many tokens are done.
    """
    device = next(model.parameters()).device
    padding = padding_id(model)
    options = call_options(model)
    vectors = torch.empty(0, 0)
    for items, padded, mask in similar_batches(tokens, batch_tokens=batch_tokens, padding=padding):
        there = mask.to(device)
        output: Any = model(input_ids=padded.to(device), attention_mask=there.long(), **options)
        pooled = _pooled(output.last_hidden_state.float(), there, pooling).cpu()
        if not vectors.numel():
            vectors = torch.full((len(tokens), pooled.shape[1]), torch.nan)
        vectors[items] = pooled
        advance(int(mask.sum()))
    return vectors


def _pooled(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """States ``(n, T, E)`` and mask ``(n, T)`` -> ``(n, E)``."""
    lengths = mask.sum(1)
    if pooling == "mean":
        # what stands under the mask may be anything, NaN included
        return states.masked_fill(~mask[..., None], 0).sum(1) / lengths[:, None]
    place = torch.zeros_like(lengths) if pooling == "first" else lengths - 1
    return states[torch.arange(len(states), device=states.device), place]
