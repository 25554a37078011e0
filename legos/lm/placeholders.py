"""What stands for the lower part of a cut model, and hands its layer k the cached state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from legos.errors import ConfigError
from legos.lm.layers import hidden_argument, hidden_states


@dataclass
class Resumption:
    """How a cut model goes on from a cached state.

    Attributes:
        layer: k, at which it is cut.
        padding: id that stands behind shorter items.
        states: ``(B, T, E)`` that layer k gets in the forward pass under way.
        beside: what layer 0 hands on beside hidden states, where a family computes it there once.
    """

    layer: int
    padding: int
    states: Tensor | None = None
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
        states = self.states
        if (
            states is None
            or found.dim() != 3
            or found.shape[0] != states.shape[0]
            or found.shape[1] < states.shape[1]
        ):
            raise ConfigError(
                f"its layers read hidden states of shape {tuple(found.shape)}, not (batch, tokens, "
                "width); a model of this kind cannot be cut"
            )
        states = states.to(found.dtype)
        if found.shape[1] > states.shape[1]:  # a family that pads to a multiple of its window
            states = nn.functional.pad(states, (0, 0, 0, found.shape[1] - states.shape[1]))
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
    ) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
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
