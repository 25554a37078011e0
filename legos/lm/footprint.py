"""What training takes in memory of a device, in bytes: weights, gradients, moments, activations.

All of it is counted on the meta device, where a tensor has a shape and no numbers: a forward pass
there keeps for its backward pass what the real one keeps, and takes neither memory nor weights.
Under DDP every device has the whole model, and gradients once more in the buckets that are sent.
Under FSDP each has its share of the layers, two of them put together, and what is no layer. What a
device's driver takes (half a GiB to one) and data kept there come on top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any, Literal, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional

from legos.lm.adapt import QuantisedLinear
from legos.lm.cut import layers_below
from legos.lm.text_model import call_options, halves_of, layers_of

_FLOAT = 4  # bytes
_STEP_COUNT = 4  # bytes of Adam's count of steps, for each tensor


class Counted(NamedTuple):
    """A parameter of a model."""

    name: str  # dotted
    numbers: int  # that it stands for; codes of quantised layers stand for their weight
    parameter: nn.Parameter

    @property
    def bytes(self) -> int:
        """In which it lies."""
        return self.parameter.numel() * self.parameter.element_size()


def counted(model: nn.Module) -> Iterator[Counted]:
    """Every parameter of a model once."""
    codes: dict[int, int] = {}
    for module in model.modules():
        if isinstance(module, QuantisedLinear):
            codes[id(module.weight)] = module.in_features * module.out_features
            codes[id(module.scales)] = 0
    for name, parameter in model.named_parameters():
        yield Counted(name, codes.get(id(parameter), parameter.numel()), parameter)


class Weights(NamedTuple):
    """Bytes that one process without others keeps of a model for a whole training.

    Attributes:
        whole: parameters, gradients and moments of what is no layer, which FSDP does not share.
    """

    parameters: int  # trained and frozen ones
    gradients: int  # of the trained ones
    moments: int  # of Adam
    gathered: int  # parameters of two layers, which FSDP puts together at once
    gathered_gradients: int  # of one layer, beside them
    whole: tuple[int, int, int]


def weights_of(
    model: nn.Module,
    layers: Iterable[nn.Module],
    optimized: Sequence[Sequence[nn.Parameter]] | None = None,
) -> Weights:
    """Count a model's weights.

    FSDP puts ``layers`` together and lets them go one after another; ``optimized`` are the
    parameters of each Adam; None: one has all that are trained.
    """
    all_of_it = list(model.parameters())
    trained = [each for each in all_of_it if each.requires_grad]
    optimized = [trained] if optimized is None else optimized
    inside: set[int] = set()
    units: list[tuple[int, int]] = [(0, 0)]
    for layer in layers:
        own = list(layer.parameters())
        inside |= {id(each) for each in own}
        units.append((_bytes(own), _bytes(each for each in own if each.requires_grad)))

    def outside(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
        return [each for each in parameters if id(each) not in inside]

    return Weights(
        parameters=_bytes(all_of_it),
        gradients=_bytes(trained),
        moments=sum(map(moment_bytes, optimized)),
        gathered=2 * max(units)[0],
        gathered_gradients=max(learning for _, learning in units),
        whole=(
            _bytes(outside(all_of_it)),
            _bytes(outside(trained)),
            sum(moment_bytes(outside(each)) for each in optimized),
        ),
    )


def moment_bytes(parameters: Sequence[nn.Parameter]) -> int:
    """Bytes of Adam's two moments and its count of steps."""
    return 2 * _bytes(parameters) + _STEP_COUNT * len(parameters)


def _bytes(parameters: Iterable[Tensor]) -> int:
    return sum(each.numel() * each.element_size() for each in parameters)


def score_bytes(scores: int) -> int:
    """Bytes of scores of words or items in fp32, of their softmax and of its gradient."""
    return 3 * _FLOAT * scores


class Activations(NamedTuple):
    """Bytes that a forward pass keeps for its backward pass."""

    layers: tuple[int, ...]  # in each layer
    outside: int  # beside them
    input: int  # what goes into a layer

    @property
    def kept(self) -> int:
        """Without gradient checkpointing."""
        return sum(self.layers) + self.outside

    @property
    def checkpointed(self) -> int:
        """With it: the input of every layer, and one layer's own while that is computed again."""
        if not self.layers:
            return self.outside
        learning = sum(1 for each in self.layers if each)
        return min(self.kept, learning * self.input + max(self.layers) + self.outside)


Run = Callable[[nn.Module], Tensor]
"""Calls a model on the meta device; returns its final states, which are held meanwhile."""


def activations_of(model: nn.Module, run: Run, *, autocast: bool) -> Activations | None:
    """Count what a forward pass in training mode keeps, without gradient checkpointing.

    Args:
        model: a transformer on the meta device; a copy of it is used.
        run: calls it.
        autocast: weights in fp32 are cast to 16 bits where they are used, and the copies are kept.

    Returns:
        None for a kind that cannot be called without the numbers of its tensors.
    """
    copy: Any = deepcopy(model).train()
    for module in copy.modules():
        for name in ("gradient_checkpointing", "checkpointing"):
            if getattr(module, name, None):
                setattr(module, name, None)
    copies = 0
    if autocast:
        single = [p for p in copy.parameters() if p.dtype == torch.float32 and p.dim() > 1]
        copies = sum(2 * parameter.numel() for parameter in single)
        copy.to(torch.bfloat16)
    stack = layers_of(copy)
    counts = [0] * (len(stack) + 1)  # the last: outside
    with _counting(copy, stack, counts), _without_numbers():
        try:
            found = run(copy)
        except (RuntimeError, TypeError, ValueError, AttributeError):
            return None
    size = found.numel() * found.element_size()
    del found
    return Activations(tuple(counts[:-1]), counts[-1] + copies, size)


def transformer_run(rows: int, width: int, *, vectors: bool = False) -> Run:
    """How :func:`activations_of` calls a transformer, with ids or with ``vectors`` that learn.

    An encoder-decoder's two halves have one half of a row's ``width`` each.
    """

    def run(model: nn.Module) -> Tensor:
        called: Any = model
        halves = len(halves_of(model))
        size = (rows, -(-width // halves))
        mask = torch.ones(size, dtype=torch.int64, device="meta")
        if vectors or layers_below(model):
            table = called.get_input_embeddings().weight
            given = called.config.hidden_size if layers_below(model) else table.shape[1]
            states = torch.empty(*size, given, dtype=table.dtype, device="meta")
            named = {"inputs_embeds": states.requires_grad_(vectors)}
        else:
            named = {"input_ids": torch.zeros_like(mask)}
        named["attention_mask"] = mask
        if halves > 1:
            named |= {f"decoder_{name}": value for name, value in named.items()}
        found: Tensor = called(**named, **call_options(model)).last_hidden_state
        return found

    return run


Way = Literal["DDP", "FSDP"]


class Needed(NamedTuple):
    """Bytes on one device; ``kept`` and ``checkpointed``: activations of a step, None: unknown."""

    parameters: int
    gradients: int
    moments: int
    kept: int | None
    checkpointed: int | None


@dataclass(frozen=True)
class Footprint:
    """What a model takes wherever it is trained.

    Attributes:
        activations: of a step in one of so many processes; None: unknown.
    """

    weights: Weights  # of all of it
    activations: Callable[[int], Activations | None]
    beside: int = 0  # bytes of a step beside the language model: scores of words and items
    shards: bool = True  # whether FSDP may share the model out

    @cached_property
    def _counted(self) -> Callable[[int], Activations | None]:
        """Activations, counted once for every way of sharing."""
        return cache(self.activations)

    def needed(self, processes: int, way: Way | None) -> Needed:
        """What one device needs."""
        weights, found = self.weights, self._counted(processes)
        kept = None if found is None else found.kept + self.beside
        checkpointed = None if found is None else found.checkpointed + self.beside
        parameters, gradients, moments = weights[:3]
        if way == "FSDP":
            parameters, gradients, moments = (
                whole - (whole - all_of_it) // processes  # rounded up
                for all_of_it, whole in zip(weights[:3], weights.whole, strict=True)
            )
            parameters += weights.gathered
            gradients += weights.gathered_gradients
        elif way == "DDP":
            gradients *= 2
        return Needed(parameters, gradients, moments, kept, checkpointed)


@contextmanager
def _counting(model: nn.Module, layers: Sequence[nn.Module], counts: list[int]) -> Iterator[None]:
    """Add up the storages that are saved for the backward pass, each once, weights left out."""
    known = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    inside = [len(layers)]

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            known.add(storage._cdata)
            counts[inside[-1]] += storage.nbytes()
        return tensor

    def enter(*_: Any, number: int) -> None:
        inside.append(number)

    def leave(*_: Any) -> None:
        inside.pop()

    with ExitStack() as hooks:
        for number, layer in enumerate(layers):
            before = layer.register_forward_pre_hook(partial(enter, number=number))
            hooks.callback(before.remove)
            hooks.callback(layer.register_forward_hook(leave).remove)
        hooks.enter_context(torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor))
        yield


class _FusedAttention(torch.autograd.Function):
    """What a fused attention keeps: queries, keys, values, its output, and a number a query."""

    @staticmethod
    def forward(context: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        found = query.new_empty(*query.shape[:-1], value.shape[-1])
        sums = query.new_empty(query.shape[:-1], dtype=torch.float32)
        context.save_for_backward(query, key, value, found, sums)
        return found


@contextmanager
def _without_numbers() -> Iterator[None]:
    """Fused attention, which on the meta device would keep every score; no look into masks."""
    from transformers import masking_utils

    def fused(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
        function: Any = _FusedAttention
        result: Tensor = function.apply(query, key, value)
        return result

    with (
        patch.object(functional, "scaled_dot_product_attention", fused),
        patch.object(masking_utils, "is_tracing", lambda tensor=None: True),
    ):
        yield
