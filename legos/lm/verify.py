"""Whether a cut model computes what the whole one computes: a few items are run both ways.

Before a cache of hidden states is written or used, the longest item, the shortest and some that a
seed draws run whole and cut, in one batch and each alone. What differs by more than rounding is
refused. The result is kept beside the cache, so that this is done once for each version of the
libraries that compute.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from legos.data.ragged import Ragged
from legos.errors import ConfigError, DataError
from legos.files import write_json
from legos.lm.cut import cut_meanwhile, forward_above
from legos.lm.hidden_files import read_json
from legos.lm.states import StateReader, layer_name
from legos.lm.text_model import call_options, padding_id
from legos.records import Record

VERIFIED = "verified.json"  # in the folder of a cached part
_TOLERANCES = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 1e-1}  # of the relative difference
_DRAWN = 4  # items besides the longest and the shortest
_COMPUTING = ("torch", "transformers")


@dataclass(frozen=True)
class Difference:
    """Of two tensors that should be the same.

    Attributes:
        relative: the norm of their difference over that of the first.
        largest: the largest difference of a number over the largest number.
    """

    relative: float
    largest: float


class Verified(Record):
    """A cached layer that was verified.

    Attributes:
        libraries: that computed, with their versions.
        items: that were run both ways.
        relative: see :class:`Difference`.
    """

    libraries: list[str]
    items: int
    relative: float


def difference(expected: Tensor, found: Tensor) -> Difference:
    """How far ``found`` is from ``expected``, of one shape; infinitely where one is not finite."""
    expected, found = expected.double(), found.double()
    if not (torch.isfinite(expected).all() and torch.isfinite(found).all()):
        return Difference(float("inf"), float("inf"))
    apart, tiny = expected - found, torch.finfo(torch.float64).tiny
    return Difference(
        float(apart.norm() / expected.norm().clamp(min=tiny)),
        float(apart.abs().max() / expected.abs().max().clamp(min=tiny)),
    )


def some_items(tokens: Ragged) -> Tensor:
    """The longest item, the shortest with a token and a few others: ``(M,)`` int64."""
    order = tokens.lengths.argsort(stable=True)
    order = order[tokens.lengths[order] > 0]
    if not len(order):
        return order
    drawn = torch.randperm(len(order), generator=torch.Generator().manual_seed(0))[:_DRAWN]
    chosen: Tensor = torch.cat([order[-1:], order[:1], order[drawn]]).unique()
    return chosen


@torch.no_grad()
def verify_items(
    model: nn.Module, layer: int, tokens: Ragged, states: Tensor, *, name: str, dtypes: set[str]
) -> Difference:
    """Run some items whole, and from the states of a layer on.

    Args:
        model: whole, on its device, in evaluation mode.
        layer: k.
        tokens: ids of M items.
        states: ``(P, E)`` inputs of the layer as cached.
        name: of the model, for messages.
        dtypes: of weights, states and computing; the coarsest decides what is rounding.

    Raises:
        ConfigError: the results differ or are not finite, or an item's depends on the padding of
            its batch.
    """
    tolerance = max(_TOLERANCES[dtype] for dtype in dtypes)
    whole = final_states(model, tokens)
    if not torch.isfinite(whole).all():
        raise ConfigError(
            f"language model {name!r}: its final states are not finite; set another dtype, or "
            "look at the texts"
        )
    padding = difference(final_states_alone(model, tokens), whole)
    if not padding.relative <= tolerance:
        raise depends_on_padding(name, padding.relative)
    weight = next(model.parameters())
    dtype = weight.dtype if weight.is_floating_point() else states.dtype
    with cut_meanwhile(model, layer):
        found = resumed_states(model, tokens, states.to(weight.device, dtype))
    apart = difference(whole, found)
    if not apart.relative <= tolerance:
        raise not_equal(name, layer, apart.relative)
    return apart


def depends_on_padding(name: str, relative: float) -> ConfigError:
    """The error of a model whose states depend on other items."""
    return ConfigError(
        f"language model {name!r}: an item's states depend on the padding of its batch (relative "
        f"difference {relative:.1g}), so it has no vector of its own; choose another model"
    )


def not_equal(name: str, layer: int, relative: float) -> ConfigError:
    """The error of a model that cannot be cut at a layer."""
    return ConfigError(
        f"language model {name!r} cut at layer {layer} does not compute what the whole model "
        f"computes (relative difference {relative:.1g}); set layer: 0, or choose another model"
    )


def is_verified(part: Path) -> bool:
    """Whether the cached layer in a folder was verified with the libraries of now."""
    with suppress(DataError):
        return read_json(part / VERIFIED, Verified).libraries == _libraries()
    return False


def note_verified(part: Path, found: Difference, items: int) -> None:
    """Note in the folder of a cached layer that it was verified."""
    facts = Verified(libraries=_libraries(), items=items, relative=found.relative)
    with suppress(OSError):  # a cache that others own may be read only
        write_json(part / VERIFIED, facts.model_dump())


def _libraries() -> list[str]:
    return [f"{each} {version(each)}" for each in _COMPUTING]


def final_states(model: Any, tokens: Ragged) -> Tensor:
    """Final states of all items, read in one batch: ``(P, E')``."""
    padded, mask = _padded(tokens.values, tokens, padding_id(model))
    device = next(model.parameters()).device
    output = model(
        input_ids=padded.to(device), attention_mask=mask.long().to(device), **call_options(model)
    )
    states: Tensor = output.last_hidden_state
    if states.dim() != 3 or len(states) != len(mask) or states.shape[1] < mask.shape[1]:
        raise ConfigError(
            f"{type(model).__name__}: final states of shape {tuple(states.shape)} for "
            f"{tuple(mask.shape)} tokens; a model of this kind cannot be an item encoder"
        )
    kept: Tensor = states[:, : mask.shape[1]][mask.to(device)]
    return kept


@torch.no_grad()
def final_states_alone(model: nn.Module, tokens: Ragged) -> Tensor:
    """Final states of all items, each read by itself: ``(P, E')``."""
    items = (tokens.select(torch.tensor([item])) for item in range(len(tokens)))
    return torch.cat([final_states(model, item) for item in items])


def states_at(model: nn.Module, tokens: Ragged, layer: int) -> Tensor:
    """Inputs of a layer: ``(P, E)``."""
    states: Mapping[str, Tensor] = StateReader(model, layers=[layer])(tokens)
    return states[layer_name(layer)]


def resumed_states(model: nn.Module, tokens: Ragged, states: Tensor) -> Tensor:
    """Final states of a cut model that is given the states ``(P, E)`` of all items: ``(P, E')``."""
    padded, mask = _padded(states, tokens, 0)
    mask = mask.to(states.device)
    found = forward_above(model, padded, mask, call_options(model))
    kept: Tensor = found[:, : mask.shape[1]][mask]
    return kept


def _padded(values: Tensor, tokens: Ragged, padding: int) -> tuple[Tensor, Tensor]:
    """``(P, ...)`` -> ``(N, T, ...)`` with ``padding`` behind shorter items, mask ``(N, T)``."""
    lengths = tokens.lengths.cpu()
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    padded = values.new_full((*mask.shape, *values.shape[1:]), padding)
    padded[mask.to(values.device)] = values
    return padded, mask
