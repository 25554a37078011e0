"""Cutting a language model below a layer: what lies below is computed once and cached.

``hidden_states[k]`` of a transformers model is the *input* of layer k. A model cut at k keeps the
forward of its family. Its first k layers become placeholders without weights, its token table one
row, and a hook hands layer k the cached state in place of what came through the placeholders. All
that a family does beside its layers (masks, rotary tables, relative positions, scales, norms) stays
its own. The published DIRE (ONCE, WSDM 2024) resumes at layer k + 1: it skips one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from legos.errors import ConfigError
from legos.lm.text_model import (
    Reached,
    call_options,
    check_cut,
    hidden_argument,
    hidden_states,
    layer_stack,
    padding_id,
)
from legos.lm.twin import Twin

_PROBE_TOKENS = 4


def cut_below(model: nn.Module, cut: int, *, like: Twin | None = None) -> None:
    """Take the weights of the first ``cut`` layers, and the token table, out of a model, in place.

    ``forward(inputs_embeds=(B, T, E), attention_mask=(B, T))`` then takes the inputs of layer k and
    computes the kept layers, see :func:`forward_above`. Parameters keep their names; those outside
    of the layers that no longer count are frozen.

    Args:
        model: a text model without head; without weights (meta device) only with ``like``.
        cut: k, at least 1.
        like: a small model of the same kind that can be called, for one that cannot.

    Raises:
        ConfigError: there is no such layer, or the model is of a kind that cannot be cut.
    """
    _, layers = layer_stack(model)
    check_cut(type(model).__name__, cut, len(layers))
    refuse_shared_weights(model, cut)
    example, at = (model, cut) if like is None else (like.model, like.layer)
    sizes, beside = _outputs_below(example, at)
    _replace(model, cut, sizes, beside)
    if like is not None:
        _replace(example, at, sizes, beside)
    if beside:
        layers[0].requires_grad_(False)
    unused = _unused(example)
    for name, parameter in model.named_parameters():
        if name in unused:
            parameter.requires_grad_(False)
    for name in _dropouts_below(example):
        dropout: Any = model.get_submodule(name)
        dropout.p = 0.0  # drawing for what is replaced costs time


def refuse_shared_weights(model: nn.Module, cut: int) -> None:
    """Raise ConfigError where training a layer above the cut would change one below it."""
    _, layers = layer_stack(model)
    below = {id(parameter) for layer in layers[:cut] for parameter in layer.parameters()}
    for layer in layers[cut:]:
        for name, parameter in layer.named_parameters():
            if id(parameter) in below:
                raise ConfigError(
                    f"{type(model).__name__}: layers below and above the cut share {name}; a model "
                    "of this kind cannot be cut"
                )


@contextmanager
def cut_meanwhile(model: nn.Module, cut: int) -> Iterator[None]:
    """Cut a model as :func:`cut_below` does, and undo it afterwards."""
    undo = _replace(model, cut, *_outputs_below(model, cut))
    try:
        yield
    finally:
        undo()


def forward_above(model: Any, states: Tensor, mask: Tensor, options: Mapping[str, Any]) -> Tensor:
    """Final states ``(B, T, E')`` of a cut model, anything at padding.

    Args:
        model: see :func:`cut_below`.
        states: ``(B, T, E)`` inputs of the layer it is cut at, padding behind real tokens.
        mask: ``(B, T)`` bool, True = a real token.
        options: of its forward.
    """
    output = model(inputs_embeds=states, attention_mask=mask.long(), **options)
    found: Tensor = output.last_hidden_state
    return found


def enable_checkpointing(model: Any) -> None:
    """Compute activations of a model's layers twice rather than keep them.

    Raises:
        ConfigError: transformers offers it for no model of this kind.
    """
    settings: dict[str, Any] = {"use_reentrant": False}
    resumption = _resumption_of(model)
    if resumption is not None:
        settings["context_fn"] = resumption.checkpoint_contexts
    enable = getattr(model, "activation_checkpointing_enable", None)
    try:
        (enable or model.gradient_checkpointing_enable)(settings)
    except ValueError:
        raise ConfigError(
            f"gradient_checkpointing: transformers has none for {type(model).__name__}; "
            "set it to false"
        ) from None
    if hasattr(model, "disable_input_require_grads"):
        model.disable_input_require_grads()  # only reentrant checkpoints need it


def layers_below(model: nn.Module) -> list[str]:
    """Dotted names of the layers below the cut; none for a model that is not cut."""
    resumption = _resumption_of(model)
    if resumption is None:
        return []
    path, _ = layer_stack(model)
    return [f"{path}.{number}" for number in range(resumption.layer)]


def placeholder_names(model: nn.Module) -> list[str]:
    """Names of the placeholder tensors in a cut model."""
    return [
        f"{path}.weight" for path, module in model.named_modules() if isinstance(module, OneWord)
    ]


def _resumption_of(model: nn.Module) -> Resumption | None:
    """How a cut model goes on; None: it is not cut."""
    found = getattr(model, "resumption", None)
    return found if isinstance(found, Resumption) else None


def _replace(
    model: Any, cut: int, sizes: Mapping[type[nn.Module], int], beside: bool
) -> Callable[[], None]:
    """Put placeholders where weights below the cut were, and the hook; returns what undoes it."""
    _, layers = layer_stack(model)
    resumption = Resumption(cut, padding_id(model))
    hooks = [
        model.register_forward_pre_hook(resumption.take_states, with_kwargs=True),
        model.register_forward_hook(resumption.forget_states, always_call=True),
        layers[cut].register_forward_pre_hook(resumption.replace_input, with_kwargs=True),
    ]
    first = 0
    if beside:
        first = 1
        hooks.append(layers[0].register_forward_hook(resumption.keep_beside))
    table = model.get_input_embeddings()
    tables = [path for path, module in model.named_modules() if module is table]
    below = list(layers[first:cut])
    for number, layer in enumerate(below, first):
        layers[number] = Skipped(layer, sizes.get(type(layer), 0), resumption)
    word = OneWord(table)
    for path in tables:
        model.set_submodule(path, word)
    model.resumption = resumption

    def undo() -> None:
        for hook in hooks:
            hook.remove()
        for number, layer in enumerate(below, first):
            layers[number] = layer
        for path in tables:
            model.set_submodule(path, table)
        del model.resumption

    return undo


@torch.no_grad()
def _outputs_below(model: Any, cut: int) -> tuple[dict[type[nn.Module], int], bool]:
    """Run a few words through the lowest layers and see what they return.

    Returns:
        By class of a layer 0 for hidden states alone, n for a tuple of n, them first; and whether
        layer 0 returns a tensor that later layers read.
    """
    _, layers = layer_stack(model)
    kinds = {type(layer) for layer in layers[:cut]}
    sizes: dict[type[nn.Module], int] = {}
    beside: list[bool] = []

    def look(module: nn.Module, arguments: Any, output: Any) -> None:
        whole = isinstance(output, tuple | list)
        sizes[type(module)] = len(output) if whole else 0
        if whole and not beside:
            beside.append(any(isinstance(each, Tensor) for each in output[1:]))
        if sizes.keys() == kinds:
            raise Reached

    hooks = [layer.register_forward_hook(look) for layer in layers[:cut]]
    ids = torch.ones(1, _PROBE_TOKENS, dtype=torch.int64, device=next(model.parameters()).device)
    training = model.training
    model.eval()
    try:
        with suppress(Reached):
            model(input_ids=ids, attention_mask=torch.ones_like(ids), **call_options(model))
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    return sizes, any(beside)


@torch.no_grad()
def _dropouts_below(model: nn.Module) -> list[str]:
    """Names of dropouts outside of the layers that a cut model runs before the cut alone."""
    path, layers = layer_stack(model)
    before: set[str] = set()
    after: set[str] = set()
    reached: list[bool] = []
    at = layers[len(layers_below(model))]
    hooks = [at.register_forward_pre_hook(lambda *_: reached.append(True))]
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout) and not name.startswith(f"{path}."):

            def note(*_: Any, name: str = name) -> None:
                (after if reached else before).add(name)

            hooks.append(module.register_forward_pre_hook(note))
    _probe(model)
    for hook in hooks:
        hook.remove()
    return sorted(before - after)


def _probe(model: nn.Module) -> Tensor:
    """Final states of a cut model for a few made-up states."""
    device = next(model.parameters()).device
    config: Any = model.config
    states = torch.ones(1, _PROBE_TOKENS, config.hidden_size, device=device)
    mask = torch.ones(1, _PROBE_TOKENS, dtype=torch.bool, device=device)
    return forward_above(model, states, mask, call_options(model))


def _unused(model: nn.Module) -> set[str]:
    """Names of parameters outside of the layers that the final states do not depend on."""
    inside = {id(parameter) for parameter in layer_stack(model)[1].parameters()}
    outside = {
        path: parameter
        for path, parameter in model.named_parameters()
        if id(parameter) not in inside and parameter.is_floating_point()
    }
    trained = {path: parameter.requires_grad for path, parameter in outside.items()}
    for parameter in outside.values():
        parameter.requires_grad_(True)
    gradients: Sequence[Tensor | None] = [None] * len(outside)
    with torch.enable_grad():
        final = _probe(model).float().sum()
        if outside and final.requires_grad:
            gradients = torch.autograd.grad(final, list(outside.values()), allow_unused=True)
    for path, parameter in outside.items():
        parameter.requires_grad_(trained[path])
    return {path for path, gradient in zip(outside, gradients, strict=True) if gradient is None}


@dataclass
class Resumption:
    """How a cut model goes on from a cached state.

    Attributes:
        beside: what layer 0 hands on beside hidden states, where a family computes it there once.
    """

    layer: int  # k, at which it is cut
    padding: int  # id that stands behind shorter items
    states: Tensor | None = None  # ``(B, T, E)`` that layer k gets in the forward pass under way
    beside: tuple[Any, ...] = ()

    def take_states(
        self, module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Forward pre-hook of the model: ``inputs_embeds`` are the states, any words the input."""
        named = dict(named)
        self.states = named.pop("inputs_embeds", None)
        if self.states is None:
            raise ValueError("a cut model reads states, as inputs_embeds")
        mask = named.get("attention_mask")
        real = torch.ones(self.states.shape[:2]) if mask is None else mask
        real = real.to(self.states.device).bool()
        word = 1 if self.padding == 0 else 0  # any will do: what it becomes is replaced
        ids = torch.full(real.shape, self.padding, device=real.device)
        return arguments, {**named, "input_ids": ids.masked_fill(real, word)}

    def forget_states(self, module: nn.Module, arguments: Any, output: Any) -> None:
        """Forward hook of the model."""
        self.states = None

    def replace_input(
        self, module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Forward pre-hook of layer k."""
        place = hidden_argument(arguments, named)
        found = arguments[place] if isinstance(place, int) else named[place]
        states, shape = self.states, found.shape
        if (
            states is None
            or len(shape) != 3
            or len(found) != len(states)
            or shape[1] < states.shape[1]
        ):
            raise ConfigError(
                f"its layers read hidden states of shape {tuple(shape)}, not (batch, tokens, "
                "width); a model of this kind cannot be cut"
            )
        states = states.to(found.dtype)
        if shape[1] > states.shape[1]:  # a family that pads to a multiple of its window
            states = nn.functional.pad(states, (0, 0, 0, shape[1] - states.shape[1]))
        if isinstance(place, int):
            return (*arguments[:place], states, *arguments[place + 1 :]), named
        return arguments, {**named, place: states}

    def keep_beside(self, module: nn.Module, arguments: Any, output: Any) -> None:
        """Forward hook of layer 0 where it stays."""
        self.beside = tuple(output[1:])

    @contextmanager
    def given(self, states: Tensor | None) -> Iterator[None]:
        """Hand on these states meanwhile."""
        before, self.states = self.states, states
        try:
            yield
        finally:
            self.states = before

    def checkpoint_contexts(
        self,
    ) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        """Contexts of a checkpointed layer, now and when backward computes it again."""
        return nullcontext(), self.given(self.states)


class OneWord(nn.Embedding):
    """Stands for a token table: every id is its only word."""

    def __init__(self, table: nn.Module) -> None:
        given: Any = table
        weight: Tensor = given.weight
        row = torch.zeros(1, weight.shape[1], device=weight.device, dtype=weight.dtype)
        super().__init__(1, weight.shape[1], _weight=row)  # drawn from no generator
        self.requires_grad_(False)

    def forward(self, input: Tensor) -> Tensor:
        """``(B, T)`` -> ``(B, T, E)``."""
        return super().forward(torch.zeros_like(input))


class Skipped(nn.Module):
    """Stands for a layer below the cut: hands hidden states on, in the form its family expects."""

    def __init__(self, layer: nn.Module, size: int, resumption: Resumption) -> None:
        super().__init__()
        for name, value in vars(layer).items():
            if not name.startswith("_") and name not in vars(self):
                setattr(self, name, value)  # such as which mask the layer is given
        for name in set(dir(type(layer))) - set(dir(nn.Module)):
            if isinstance(getattr(type(layer), name), property | str | int):
                setattr(self, name, getattr(layer, name))
        self.outputs, self.resumption = size, resumption

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """Hidden states ``(B, T, E)`` -> the same, alone or first in a tuple."""
        states = hidden_states(arguments, named)
        if not self.outputs:
            return states
        beside = self.resumption.beside or (None,) * (self.outputs - 1)
        return (states, *beside)
