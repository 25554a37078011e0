"""Where a language model of any kind keeps its layers, and what goes into one."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from legos.errors import ConfigError

_RIVAL = 0.1  # another list of as many modules with that share of the weights: no stack of layers


class Reached(Exception):
    """Ends a forward pass at a layer whose input is all that is wanted."""


def layer_stack(model: nn.Module) -> tuple[nn.Module, str, nn.ModuleList]:
    """Where a model keeps its layers: the module that holds them, its attribute, the layers.

    They are the list of as many modules as its configuration has layers, and of all such lists the
    one that holds most weights.

    Raises:
        ConfigError: there is none, or what belongs to a layer is spread over several lists.
    """
    path, layers = _stack(model)
    way, _, name = path.rpartition(".")
    return model.get_submodule(way), name, layers


def stack_path(model: nn.Module) -> str:
    """The dotted name of a model's layers; errors as :func:`layer_stack`."""
    return _stack(model)[0]


def _stack(model: Any) -> tuple[str, nn.ModuleList]:
    kind = type(model).__name__
    count = getattr(getattr(model, "config", None), "num_hidden_layers", None)
    found: dict[str, nn.ModuleList] = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    }
    outermost = {
        path: module
        for path, module in found.items()
        if not any(path != other and path.startswith(f"{other}.") for other in found)
    }
    sizes = {path: _size(module) for path, module in outermost.items()}
    if not sizes:
        raise ConfigError(
            f"{kind}: no list of its modules has one for each of its {count} layers; a model of "
            "this kind cannot be cut"
        )
    best = max(sizes, key=lambda path: sizes[path])
    rivals = [path for path in sizes if path != best and sizes[path] > _RIVAL * sizes[best]]
    if rivals:
        raise ConfigError(
            f"{kind}: its layers are spread over several lists ({', '.join([best, *rivals])}); a "
            "model of this kind cannot be cut"
        )
    return best, outermost[best]


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def check_cut(model_name: str, cut: int, num_layers: int) -> None:
    """Raise ConfigError unless ``0 <= cut < num_layers``."""
    if not 0 <= cut < num_layers:
        why = "; the state after the last layer is normalised already" if cut == num_layers else ""
        raise ConfigError(
            f"layer {cut}: {model_name} has {num_layers} layers, so a cut lies between 0 (nothing "
            f"cached) and {num_layers - 1}{why}"
        )


def hidden_argument(arguments: tuple[Any, ...], named: dict[str, Any]) -> int | str:
    """Which argument of a layer is the hidden states: its position, or its name.

    Raises:
        ConfigError: none is.
    """
    if "hidden_states" in named:
        return "hidden_states"
    for place, value in enumerate(arguments):
        if isinstance(value, Tensor) and value.is_floating_point():
            return place
    for name, value in named.items():
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim() == 3:
            return name
    raise ConfigError(
        "its layers are not called with hidden states; a model of this kind cannot be cut"
    )


def hidden_states(arguments: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
    """The hidden states that a layer is called with; errors as :func:`hidden_argument`."""
    place = hidden_argument(arguments, named)
    found: Tensor = arguments[place] if isinstance(place, int) else named[place]
    return found


def share_weights(layers: nn.ModuleList, cut: int) -> str | None:
    """Name a weight that layers below a cut share with one above it; None: they share none."""
    below = {id(parameter) for layer in layers[:cut] for parameter in layer.parameters()}
    for layer in layers[cut:]:
        for name, parameter in layer.named_parameters():
            if id(parameter) in below:
                return name
    return None
