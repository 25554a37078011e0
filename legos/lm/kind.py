"""Whether a kind of language model can be an item encoder: tried on a small random one.

No list of names decides. A twin of the model (same configuration, small widths, random weights)
reads a few texts in one batch and alone, whole and cut, with adapters that are not zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from legos.data.ragged import Ragged, from_lengths
from legos.errors import ConfigError
from legos.lm.adapt import add_lora, lora_parameters
from legos.lm.cut import cut_meanwhile, refuse_shared_weights
from legos.lm.quiet import quiet_transformers
from legos.lm.shrink import WORDS
from legos.lm.states import StateReader
from legos.lm.text_model import output_width
from legos.lm.twin import NoTwinError, Twin, twin
from legos.lm.verify import (
    depends_on_padding,
    difference,
    final_states,
    final_states_alone,
    not_equal,
    resumed_states,
    states_at,
)

TOLERANCE = 1e-5  # of the largest difference, in float32
_PADDING_TOLERANCE = 1e-4  # other shapes are other orders of summation
_GRADIENT_TOLERANCE = 1e-4  # sums of products of what differs by that
_LENGTHS = (12, 3, 9, 1, 11)
_FIRST_ID = 6  # below lie ids that may mean padding, beginnings and ends


Adapters = tuple[str, ...] | None
"""Names of the linear layers that get adapters, empty: the default ones; None: no adapters."""


@dataclass(frozen=True)
class Tried:
    """What a twin computed.

    Attributes:
        padding: largest relative difference of items alone and in a batch; nan: no twin could be
            built, which only matters where states are cached.
        cut: of final states from the cut on; 0 where nothing is cut.
        gradient: of the adapters' gradients; 0 without adapters.
    """

    padding: float
    cut: float = 0.0
    gradient: float = 0.0


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
        lora: adapt the layers above.
        targets: see :func:`legos.lm.adapt.add_lora`.
        pooled: read the states of all layers.

    Raises:
        ConfigError: it is no text model, items depend on their batch, cut and whole differ, or its
            layers cannot be adapted.
    """
    return _try(_Hashable(config), name, layer, tuple(targets) if lora else None, pooled)


class _Hashable:
    """A configuration as a key."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.text: str = config.to_json_string(use_diff=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashable) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


@cache
def _try(key: _Hashable, name: str, layer: int, lora: Adapters, pooled: bool) -> Tried:
    with quiet_transformers():
        try:
            return _compared(twin(key.config, layer), name, layer, lora, pooled)
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


def _compared(small: Twin, name: str, layer: int, lora: Adapters, pooled: bool) -> Tried:
    model, tokens = small.model, _texts(small.model)
    if pooled:
        StateReader(model, pooled=True)(tokens)
    with torch.no_grad():
        whole = final_states(model, tokens)
        padding = difference(final_states_alone(model, tokens), whole).largest
    if not padding <= _PADDING_TOLERANCE:
        raise depends_on_padding(name, padding)
    if not layer:
        _adapt(model, lora)
        return Tried(padding)
    refuse_shared_weights(model, small.layer)
    states = states_at(model, tokens, small.layer)
    _refuse_other_widths(model, whole, states)
    try:
        with cut_meanwhile(model, small.layer):
            _adapt(model, lora)
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
        raise not_equal(name, layer, cut)
    if lora is None:
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
def _adapt(model: nn.Module, lora: Adapters) -> None:
    """Adapters that are not zero, where they are wanted."""
    if lora is None:
        return
    add_lora(model, rank=2, alpha=2.0, dropout=0.0, targets=lora)
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
