"""Linear layers in 8 or 4 bits: codes and scales are kept, weights exist while they are used.

``int8``: each row is divided by its largest number and rounded to -127 to 127. ``nf4``: blocks of
64 numbers, 16 levels at the quantiles of a normal distribution (Dettmers et al., "QLoRA", NeurIPS
2023), by bitsandbytes. Both passes compute with the dequantised weight in the dtype of the input,
so that adapters get exactly the gradients that they have beside that weight.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from legos.errors import ConfigError
from legos.lm.adapt import linear_places
from legos.lm.settings import Quantised

_LEVELS = 127  # of a number's size in int8
_BLOCK = 64  # numbers that share a scale in nf4


class QuantisedLinear(nn.Linear):
    """A linear layer that is not trained.

    Args:
        linear: of torch, or ``Conv1D`` of transformers, which holds its weight transposed.
        kind: int8 or nf4.

    Attributes:
        weight: codes, ``(out, in)`` int8 or ``(out * in / 2,)`` uint8.
        scales: bits of float32 numbers, as int32: a cast of the model's dtype must not round them.
    """

    def __init__(self, linear: nn.Module, kind: Quantised) -> None:
        nn.Module.__init__(self)
        given: Any = linear
        weight: Tensor = given.weight.detach()
        weight = weight.T if type(linear).__name__ == "Conv1D" else weight  # (out, in)
        self.kind = kind
        self.out_features, self.in_features = weight.shape
        codes, scales = quantise_weight(weight, kind)
        self.weight = nn.Parameter(codes, requires_grad=False)
        self.scales = nn.Parameter(scales.view(torch.int32), requires_grad=False)
        self.bias = given.bias
        if self.bias is not None:
            self.bias.requires_grad_(False)

    def forward(self, input: Tensor) -> Tensor:
        """``(..., in)`` -> ``(..., out)``."""
        device = input.device.type
        if device != "meta" and torch.is_autocast_enabled(device):
            input = input.to(torch.get_autocast_dtype(device))
        function: Any = _Product
        result: Tensor = function.apply(input, self)
        return result

    def dequantised(self, dtype: torch.dtype) -> Tensor:
        """The weight, ``(out, in)``."""
        shape = (self.out_features, self.in_features)
        return dequantise_weight(
            self.weight, self.scales.view(torch.float32), self.kind, shape, dtype
        )


class _Product(torch.autograd.Function):
    """What is kept for the backward pass is the layer, never its weight."""

    @staticmethod
    def forward(context: Any, values: Tensor, layer: QuantisedLinear) -> Tensor:
        context.layer = layer
        bias = None if layer.bias is None else layer.bias.to(values.dtype)
        return functional.linear(values, layer.dequantised(values.dtype), bias)

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        return gradient @ context.layer.dequantised(gradient.dtype), None


def quantise(model: nn.Module, kind: Quantised) -> None:
    """Replace the linear layers of a model's layers, in place; head and token table stay.

    Layers on the meta device become as many bytes there.

    Raises:
        ConfigError: nf4 without bitsandbytes.
    """
    if kind == "none":
        return
    has_numbers = not any(parameter.is_meta for parameter in model.parameters())
    if kind == "nf4" and has_numbers and find_spec("bitsandbytes") is None:
        raise ConfigError(
            "quantised nf4: needs the package bitsandbytes; `pip install --no-deps -r "
            "requirements-quantised.txt`"
        )
    kept = set(getattr(model, "_keep_in_fp32_modules", None) or ())  # T5 asks its weight's dtype
    for path in linear_places(model):
        if kept.isdisjoint(path.split(".")):
            model.set_submodule(path, QuantisedLinear(model.get_submodule(path), kind))


def quantise_weight(weight: Tensor, kind: Quantised) -> tuple[Tensor, Tensor]:
    """``(out, in)`` -> codes and float32 scales."""
    if kind == "int8":
        scales = weight.float().abs().amax(1) / _LEVELS  # (out,)
        codes = weight.float() / scales.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
        return codes.round_().to(torch.int8), scales
    if weight.is_meta:
        codes = weight.new_empty(-(-weight.numel() // 2), dtype=torch.uint8)
        return codes, weight.new_empty(-(-weight.numel() // _BLOCK), dtype=torch.float32)
    from bitsandbytes.functional import quantize_4bit

    codes, state = quantize_4bit(weight.contiguous(), blocksize=_BLOCK, quant_type="nf4")
    return codes.flatten(), state.absmax


def dequantise_weight(
    codes: Tensor, scales: Tensor, kind: Quantised, shape: tuple[int, int], dtype: torch.dtype
) -> Tensor:
    """The weight that codes and scales stand for."""
    if kind == "int8":
        return (codes * scales[:, None]).to(dtype)
    if codes.is_meta:
        return codes.new_empty(shape, dtype=dtype)
    from bitsandbytes.functional import QuantState, dequantize_4bit

    state = QuantState(scales, shape=shape, dtype=dtype, blocksize=_BLOCK, quant_type="nf4")
    found: Tensor = dequantize_4bit(codes[:, None], state)
    return found
