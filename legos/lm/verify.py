"""Whether a cut model computes what the whole one does: on a twin of its kind, then on items.

No list of names decides what can be an item encoder. A twin of the model reads a few texts in one
batch and alone, whole and cut, with adapters that are not zero. Before a cache of hidden states is
written or used, the longest item, the shortest and some that a seed draws run both ways with the
weights themselves. What differs by more than rounding is refused. The result is kept beside the
cache, so that this is done once for each version of the libraries that compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from legos.data.ragged import Ragged, from_lengths
from legos.errors import ConfigError, DataError
from legos.files import write_json
from legos.lm.adapt import add_lora, lora_parameters
from legos.lm.cut import cut_meanwhile, forward_above, refuse_shared_weights
from legos.lm.hidden_files import read_json
from legos.lm.states import StateReader, layer_name
from legos.lm.text_model import call_options, output_width, padding_id, quiet_transformers
from legos.lm.twin import WORDS, NoTwinError, Twin, twin
from legos.records import Record

VERIFIED = "verified.json"  # in the folder of a cached part
_TOLERANCES = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 1e-1}  # of the relative difference
_DRAWN = 4  # items besides the longest and the shortest
_COMPUTING = ("torch", "transformers")
TOLERANCE = 1e-5  # of the largest difference, in float32
_PADDING_TOLERANCE = 1e-4  # other shapes are other orders of summation
_GRADIENT_TOLERANCE = 1e-4  # sums of products of what differs by that
_LENGTHS = (12, 3, 9, 1, 11)
_FIRST_ID = 6  # below lie ids that may mean padding, beginnings and ends
_tried: dict[tuple[Any, ...], Tried] = {}


@dataclass(frozen=True)
class Difference:
    """Of two tensors that should be the same."""

    relative: float  # the norm of their difference over that of the first
    largest: float  # the largest difference of a number over the largest number


class Verified(Record):
    """A cached layer of which some items were run both ways, with these versions of libraries."""

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
    drawn = torch.randperm(len(order), generator=torch.Generator().manual_seed(0))[:_DRAWN]
    chosen: Tensor = torch.cat([order[-1:], order[:1], order[drawn]]).unique()
    return chosen


@torch.no_grad()
def verify_items(
    model: nn.Module, layer: int, tokens: Ragged, states: Tensor, *, name: str, dtypes: set[str]
) -> Difference:
    """Run the M items of ``tokens`` whole, and from their ``(P, E)`` cached states at a layer on.

    Args:
        model: whole, on its device, in evaluation mode; ``name`` is for messages.
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
        raise _depends_on_padding(name, padding.relative)
    weight = next(model.parameters())
    dtype = weight.dtype if weight.is_floating_point() else states.dtype
    with cut_meanwhile(model, layer):
        found = resumed_states(model, tokens, states.to(weight.device, dtype))
    apart = difference(whole, found)
    if not apart.relative <= tolerance:
        raise _not_equal(name, layer, apart.relative)
    return apart


def _depends_on_padding(name: str, relative: float) -> ConfigError:
    return ConfigError(
        f"language model {name!r}: an item's states depend on the padding of its batch (relative "
        f"difference {relative:.1g}), so it has no vector of its own; choose another model"
    )


def _not_equal(name: str, layer: int, relative: float) -> ConfigError:
    return ConfigError(
        f"language model {name!r} cut at layer {layer} does not compute what the whole model "
        f"computes (relative difference {relative:.1g}); set layer: 0, or choose another model"
    )


def is_verified(part: Path) -> bool:
    """Whether a cached layer was verified with the libraries of now."""
    with suppress(DataError):
        return read_json(part / VERIFIED, Verified).libraries == _libraries()
    return False


def note_verified(part: Path, found: Difference, items: int) -> None:
    """Note that in the folder of a cached layer."""
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
    return StateReader(model, layers=[layer])(tokens)[layer_name(layer)]


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


class Tried(NamedTuple):
    """Largest differences that a twin showed."""

    padding: float
    """Of items alone and in a batch; nan: no twin, which only matters where states are cached."""
    cut: float = 0.0  # of final states from the cut on; 0 where nothing is cut
    gradient: float = 0.0  # of the adapters' gradients; 0 without adapters


def try_kind(
    config: Any,
    *,
    name: str,
    layer: int = 0,
    lora: bool = False,
    targets: Sequence[str] = (),
    pooled: bool = False,
) -> Tried:
    """Try a kind with the options of a configuration.

    Args:
        config: of transformers.
        name: of the model, for messages.
        layer: at which it is cut; 0: not at all.
        lora: adapt the layers above, see :func:`legos.lm.adapt.add_lora` for ``targets``.
        pooled: read the states of all layers.

    Raises:
        ConfigError: it is no text model, items depend on their batch, cut and whole differ, or its
            layers cannot be adapted.
    """
    adapted = tuple(targets) if lora else None
    key = (config.to_json_string(use_diff=False), name, layer, adapted, pooled)
    if key not in _tried:
        _tried[key] = _try(config, name, layer, adapted, pooled)
    return _tried[key]


def _try(
    config: Any, name: str, layer: int, targets: tuple[str, ...] | None, pooled: bool
) -> Tried:
    with quiet_transformers():
        try:
            return _compared(twin(config, layer), name, layer, targets, pooled)
        except ConfigError:
            raise
        except NoTwinError as error:
            if not layer and not pooled:
                return Tried(padding=float("nan"))
            raise _refused(name, error) from None
        except Exception as error:  # whatever a kind raises when it is called with texts
            raise _refused(name, error) from error


def _refused(name: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"language model {name!r}: a small model of its kind cannot be run on texts "
        f"({_reason(error)})"
    )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def _compared(
    small: Twin, name: str, layer: int, targets: tuple[str, ...] | None, pooled: bool
) -> Tried:
    model, tokens = small.model, _texts(small.model)
    if pooled:
        StateReader(model, pooled=True)(tokens)
    with torch.no_grad():
        whole = final_states(model, tokens)
        padding = difference(final_states_alone(model, tokens), whole).largest
    if not padding <= _PADDING_TOLERANCE:
        raise _depends_on_padding(name, padding)
    if not layer:
        _adapt(model, targets)
        return Tried(padding)
    refuse_shared_weights(model, small.layer)
    states = states_at(model, tokens, small.layer)
    _refuse_other_widths(model, whole, states)
    try:
        with cut_meanwhile(model, small.layer):
            _adapt(model, targets)
            found, resumed_gradient = _with_gradient(model, tokens, states)
    except ConfigError:
        raise
    except (AttributeError, TypeError, IndexError, KeyError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"language model {name!r} cannot be cut at layer {layer}: its kind reads more of the "
            f"layers below than their states ({_reason(error)})"
        ) from error
    expected, gradient = _with_gradient(model, tokens, None)
    cut = difference(expected, found).largest
    if not cut <= TOLERANCE:
        raise _not_equal(name, layer, cut)
    if targets is None:
        return Tried(padding, cut)
    apart = difference(gradient, resumed_gradient).largest
    if not gradient.any() or not apart <= _GRADIENT_TOLERANCE:
        raise ConfigError(
            f"language model {name!r} cut at layer {layer}: the gradients of its adapters are not "
            f"those of the whole model (relative difference {apart:.1g})"
        )
    return Tried(padding, cut, apart)


def _texts(model: Any) -> Ragged:
    """Random texts of different lengths."""
    generator = torch.Generator().manual_seed(0)
    words = min(WORDS, getattr(model.config, "vocab_size", WORDS) or WORDS)
    ids = torch.randint(_FIRST_ID, words, (sum(_LENGTHS),), generator=generator)
    return from_lengths(ids, torch.tensor(_LENGTHS))


@torch.no_grad()
def _adapt(model: nn.Module, targets: tuple[str, ...] | None) -> None:
    """Adapters that are not zero, unless none are wanted."""
    if targets is None:
        return
    add_lora(model, rank=2, alpha=2.0, dropout=0.0, targets=targets)
    generator = torch.Generator().manual_seed(1)
    for parameter in lora_parameters(model):
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)


def _refuse_other_widths(model: Any, final: Tensor, states: Tensor) -> None:
    widths = (states.shape[1], final.shape[1])
    expected = (model.config.hidden_size, output_width(model.config))
    if widths != expected:
        raise ConfigError(
            f"{type(model).__name__}: states of its layers and final ones are {widths} wide, its "
            f"configuration says {expected}; a model of this kind cannot be cut"
        )


def _with_gradient(
    model: nn.Module, tokens: Ragged, states: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Final states ``(P, E')``, and the gradients of all adapters in one row."""
    adapters = lora_parameters(model)
    with torch.set_grad_enabled(bool(adapters)):
        found = (
            final_states(model, tokens) if states is None else resumed_states(model, tokens, states)
        )
        if not adapters:
            return found, found.new_zeros(1)
        weights = torch.linspace(-1, 1, found.numel()).view_as(found)
        gradients = torch.autograd.grad((found * weights).sum(), adapters, allow_unused=True)
    flat = [
        (torch.zeros_like(parameter) if gradient is None else gradient).flatten()
        for parameter, gradient in zip(adapters, gradients, strict=True)
    ]
    return found.detach(), torch.cat(flat)
