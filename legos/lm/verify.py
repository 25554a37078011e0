"""Whether a model that is cut computes what the whole one computes; tried, not assumed.

Twice: on a small random model of the kind, which needs no weights and says whether the kind can be
cut at all, and on the weights themselves with a few of the items, before their cache is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from legos.data.ragged import Ragged
from legos.lm.cut import forward_above
from legos.lm.states import StateReader, layer_name, padding_id
from legos.lm.text_model import call_options


@dataclass(frozen=True)
class Difference:
    """Of two tensors that should be the same.

    Attributes:
        relative: the norm of their difference over that of the first.
        largest: the largest difference of a number over the largest number.
    """

    relative: float
    largest: float


def difference(expected: Tensor, found: Tensor) -> Difference:
    """How far ``found`` is from ``expected``, both of one shape."""
    expected, found = expected.double(), found.double()
    apart = expected - found
    return Difference(
        float(apart.norm() / expected.norm()), float(apart.abs().max() / expected.abs().max())
    )


@torch.no_grad()
def final_states(model: Any, tokens: Ragged) -> Tensor:
    """Final states of all items, read in one batch: ``(P, E)``."""
    padded, mask = _padded(tokens.values, tokens, padding_id(model))
    device = next(model.parameters()).device
    output = model(
        input_ids=padded.to(device),
        attention_mask=mask.long().to(device),
        **call_options(model),
    )
    states: Tensor = output.last_hidden_state[:, : mask.shape[1]]
    return states[mask.to(states.device)]


@torch.no_grad()
def final_states_alone(model: nn.Module, tokens: Ragged) -> Tensor:
    """Final states of all items, each read by itself: ``(P, E)``."""
    items = (tokens.select(torch.tensor([item])) for item in range(len(tokens)))
    return torch.cat([final_states(model, item) for item in items])


@torch.no_grad()
def states_at(model: nn.Module, tokens: Ragged, layer: int) -> Tensor:
    """Inputs of a layer: ``(P, E)``."""
    states: Tensor = StateReader(model, layers=[layer])(tokens)[layer_name(layer)]
    return states


@torch.no_grad()
def resumed_states(
    model: nn.Module, tokens: Ragged, states: Tensor, options: Mapping[str, Any]
) -> Tensor:
    """Final states of a cut model that is given the states ``(P, E)`` of all items: ``(P, E')``."""
    padded, mask = _padded(states, tokens, 0)
    mask = mask.to(states.device)
    return forward_above(model, padded, mask, options)[:, : mask.shape[1]][mask]


def _padded(values: Tensor, tokens: Ragged, padding: int) -> tuple[Tensor, Tensor]:
    """``(P, ...)`` -> ``(N, T, ...)`` with ``padding`` behind shorter items, mask ``(N, T)``."""
    lengths = tokens.lengths.cpu()
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    padded = values.new_full((*mask.shape, *values.shape[1:]), padding)
    padded[mask.to(values.device)] = values
    return padded, mask
