"""One vector a text: the final states of a language model, pooled over the text's tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from legos.data.ragged import Ragged
from legos.lm.states import padded_batch, similar_items
from legos.lm.text_model import call_options, padding_id
from legos.sharing import ALONE, Sharing

Pooling = Literal["mean", "first", "last"]


@torch.no_grad()
def pooled_final_states(
    model: nn.Module,
    tokens: Ragged,
    *,
    pooling: Pooling,
    batch_tokens: int = 16_384,
    advance: Callable[[int], None] = lambda count: None,
    sharing: Sharing = ALONE,
) -> Tensor:
    """Texts of N items -> ``(N, E)`` float32 on the CPU; NaN for an item without tokens.

    Args:
        model: a language model without head, on its device, in evaluation mode.
        tokens: ids of N items.
        pooling: mean of an item's tokens, its first one or its last one.
        batch_tokens: tokens read at once, padding included.
        advance: told how many tokens are done.
        sharing: with which other processes; all but the first get ``(0, 0)``.
    """
    device = next(model.parameters()).device
    options = call_options(model)
    pages = similar_items(tokens, batch_tokens=batch_tokens)

    def encode(items: Tensor) -> Tensor:
        padded, mask = padded_batch(tokens, items, padding=padding_id(model))
        there = mask.to(device)
        output: Any = model(input_ids=padded.to(device), attention_mask=there.long(), **options)
        return _pooled(output.last_hidden_state.float(), there, pooling).cpu()

    vectors = torch.empty(0, 0)
    for items, pooled in sharing.in_turns(pages, encode):
        if sharing.is_first:
            if not vectors.numel():
                vectors = torch.full((len(tokens), pooled.shape[1]), torch.nan)
            vectors[items] = pooled
        advance(int(tokens.lengths[items].sum()))
    return vectors


def _pooled(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """States ``(n, T, E)`` and mask ``(n, T)`` -> ``(n, E)``."""
    lengths = mask.sum(1)
    if pooling == "mean":
        # what stands under the mask may be anything, NaN included
        return states.masked_fill(~mask[..., None], 0).sum(1) / lengths[:, None]
    place = torch.zeros_like(lengths) if pooling == "first" else lengths - 1
    return states[torch.arange(len(states), device=states.device), place]
