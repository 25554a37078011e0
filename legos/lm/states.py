"""What a language model makes of packed texts: states at chosen layers, or their mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from legos.data.ragged import Ragged, offsets_of
from legos.errors import ConfigError
from legos.lm.text_model import Reached, call_options, hidden_states, layer_stack, padding_id
from legos.sharing import ALONE, Sharing

Pooling = Literal["mean", "first", "last"]

_SIMILAR = 0.75  # a batch's shortest text has that much of its longest: little padding
TOKENS, POOLED, FINAL = "tokens", "pooled", "final"
"""What bricks read besides the states of a layer."""
PER_ITEM = frozenset({POOLED, FINAL})
"""Those that have one row an item."""


def layer_name(layer: int) -> str:
    """How a cache calls the states at a layer."""
    return f"layer_{layer}"


class StateReader:
    """Reads hidden states of items.

    Args:
        model: a language model without head, on its device, in evaluation mode.
        layers: whose input states are kept; the model runs no further than the highest of them.
        pooled: keep the mean over each item's tokens of the input of every layer and of the final
            states, side by side: ``(N, (L + 1) * E)`` (IISAN).
        final: keep the mean over each item's tokens of the final states: ``(N, E)``.
        head: makes what is kept in its place, of packed states and offsets.
        batch_tokens: tokens read at once, padding included.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        layers: Sequence[int] = (),
        pooled: bool = False,
        final: bool = False,
        head: nn.Module | None = None,
        batch_tokens: int = 16_384,
    ) -> None:
        self.model, self.layers, self.pooled, self.final = model, tuple(layers), pooled, final
        self.batch_tokens, self.head = batch_tokens, head
        self.stack = layer_stack(model)[1]
        self.device = next(model.parameters()).device
        self.padding = padding_id(model)
        self.options = call_options(model)

    @torch.no_grad()
    def __call__(self, tokens: Ragged) -> Mapping[str, Tensor]:
        """Texts of N items -> per layer ``(P, E)``, and what has one row an item."""
        out: dict[str, Tensor] = {}
        numbers = Ragged(torch.arange(len(tokens.values)), tokens.offsets)
        for items in similar_items(tokens, batch_tokens=self.batch_tokens):
            padded, mask = padded_batch(tokens, items, padding=self.padding)
            places = numbers.select(items).values
            for name, states in self._read(padded, mask).items():
                whole = len(tokens) if name in PER_ITEM else tokens.values.numel()
                if name not in out:
                    out[name] = states.new_zeros(whole, states.shape[-1])
                target = items if name in PER_ITEM else places
                values = states if name in PER_ITEM else states[mask.to(states.device)]
                out[name][target.to(states.device)] = values
        return out

    def _read(self, padded: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Ids and mask ``(n, T)`` -> states ``(n, T, E)`` by name, or ``(n, width)`` of items."""
        inputs = {
            "input_ids": padded.to(self.device),
            "attention_mask": mask.long().to(self.device),
        }
        found: dict[int, Tensor] = {}
        wanted = range(len(self.stack)) if self.pooled else self.layers
        last = None if self.pooled or self.final else max(self.layers)
        with _kept(self.stack, wanted, found, last):
            try:
                final = self.model(**inputs, **self.options)
            except Reached:
                final = None
        if not found.keys() >= set(wanted):
            raise ConfigError(
                f"{type(self.model).__name__} does not call its layers one after another; the "
                "states of a model of this kind cannot be cached"
            )
        found = {layer: of_tokens(states, mask) for layer, states in found.items()}
        states = {layer_name(layer): found[layer] for layer in self.layers}
        if final is not None:
            top = final.last_hidden_state
            weights = inputs["attention_mask"][..., None]
            below = [found[layer] for layer in wanted] if self.pooled else []
            means = [(each.float() * weights).sum(1) / weights.sum(1) for each in (*below, top)]
            if self.pooled:
                states[POOLED] = torch.cat(means, -1).to(top.dtype)
            if self.head is not None:
                kept = of_tokens(top, mask)[mask.to(top.device)].float()
                states[FINAL] = self.head(kept, offsets_of(mask.sum(1)).to(top.device))
            elif self.final:
                states[FINAL] = means[-1].to(top.dtype)
        return states


def similar_items(tokens: Ragged, *, batch_tokens: int) -> list[Tensor]:
    """Numbers ``(n,)`` of items of similar length, the longest first; none without tokens.

    Args:
        tokens: ids of N items.
        batch_tokens: the most tokens of a batch, padding included, unless one item has more.
    """
    lengths = tokens.lengths
    order = lengths.argsort(stable=True)
    order = order[lengths[order] > 0]
    ascending = lengths[order]
    end = order.numel()
    found = []
    while end > 0:
        longest = int(ascending[end - 1])
        begin = max(0, end - max(1, batch_tokens // longest))
        similar = int(torch.searchsorted(ascending, longest * _SIMILAR))
        begin = max(begin, min(similar, end - 1))
        found.append(order[begin:end])
        end = begin
    return found


def padded_batch(tokens: Ragged, items: Tensor, *, padding: int) -> tuple[Tensor, Tensor]:
    """Ids ``(n, T)`` int64 of items, ``padding`` behind shorter ones, and mask ``(n, T)`` bool."""
    padded, mask = tokens.padded_tail(items, int(tokens.lengths[items].max()))
    return padded.long().masked_fill(~mask, padding), mask


def of_tokens(states: Tensor, mask: Tensor) -> Tensor:
    """States ``(n, T, E)`` at the tokens of a mask ``(n, T)``, without what a family pads beyond.

    Raises:
        ConfigError: they lie otherwise, or are fewer than the tokens.
    """
    if states.dim() != 3 or len(states) != len(mask) or states.shape[1] < mask.shape[1]:
        raise ConfigError(
            f"its layers read hidden states of shape {tuple(states.shape)} for {tuple(mask.shape)} "
            "tokens; the states of a model of this kind cannot be cached"
        )
    return states[:, : mask.shape[1]]


@contextmanager
def _kept(
    stack: nn.ModuleList, wanted: Sequence[int], found: dict[int, Tensor], last: int | None
) -> Iterator[None]:
    """Note the input of the wanted layers; stop at ``last``."""

    def keep(layer: int) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            found[layer] = hidden_states(arguments, named)
            if layer == last:
                raise Reached

        return hook

    with ExitStack() as stack_of_hooks:
        for layer in wanted:
            handle = stack[layer].register_forward_pre_hook(keep(layer), with_kwargs=True)
            stack_of_hooks.callback(handle.remove)
        yield


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """``(N, E)`` rows of length 1; a row of zeros stays as it is."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: np.ndarray = vectors / np.where(norms > 0, norms, 1)
    return scaled


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
