"""What of a language model is trained, and how small what is not trained lies in memory.

LoRA: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022; by peft.
Quantised linear layers keep codes and scales; their weights exist while they are used. ``int8``:
each row is divided by its largest number and rounded to -127 to 127. ``nf4``: blocks of 64 numbers,
16 levels at the quantiles of a normal distribution (Dettmers et al., "QLoRA", NeurIPS 2023), by
bitsandbytes. Both passes compute with the dequantised weight in the dtype of the input, so that
adapters get exactly the gradients that they have beside that weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from legos.errors import ConfigError, nearest
from legos.lm.cut import enable_checkpointing, layers_below
from legos.lm.settings import Quantised, TuningSettings

_PROJECTIONS = (  # to queries, keys and values, under the names of most families
    ("q_proj", "k_proj", "v_proj"),
    ("query", "key", "value"),
    ("query_key_value",),
    ("c_attn",),
    ("q", "k", "v"),
)
_LEVELS = 127  # of a number's size in int8
_BLOCK = 64  # numbers that share a scale in nf4


def choose_trained(model: nn.Module, how: TuningSettings) -> None:
    """Train of a language model what settings say, in place; the full model as it is.

    Cut before, only layers that run are adapted.

    Raises:
        ConfigError: see :func:`add_lora` and :func:`legos.lm.cut.enable_checkpointing`.
    """
    if how.train == "frozen":
        model.requires_grad_(False)
    elif how.train == "lora":
        add_lora(
            model,
            rank=how.lora_rank,
            alpha=how.lora_alpha,
            dropout=how.lora_dropout,
            targets=how.lora_targets,
        )
    if how.gradient_checkpointing:
        enable_checkpointing(model)


def trained_part(how: TuningSettings, *, kept: int, layers: int, parameters: int) -> str:
    """Say in a line what is trained: of ``kept`` layers that run, so many ``parameters``."""
    if how.train == "frozen":
        return f"nothing: its {kept} of {layers} layers are frozen"
    of = f"LoRA of rank {how.lora_rank} on" if how.train == "lora" else "full tuning of"
    return f"{of} {kept} of {layers} layers: {parameters:,} parameters"


def add_lora(
    model: nn.Module, *, rank: int, alpha: float, dropout: float, targets: Sequence[str] = ()
) -> None:
    """Freeze a model and put LoRA adapters beside linear layers of its layers, in place.

    ``targets`` are last parts of the names of linear layers; ``qkv``: of queries, keys and values;
    ``linear``: of all; none: see :func:`default_targets`.

    Raises:
        ConfigError: no linear layer inside the model's layers is called so, or peft refuses it.
    """
    from peft import LoraConfig, inject_adapter_in_model

    places = linear_places(model)
    names = {path.rpartition(".")[2] for path in places}
    if not names:
        raise ConfigError(
            f"lora_targets: the layers of {type(model).__name__} have no linear layer that LoRA "
            "could adapt; set train: full"
        )
    chosen = _meant(targets, names) or default_targets(model)
    for target in chosen:
        if target not in names:
            raise ConfigError(
                f"lora_targets: no linear layer is called {target!r}; "
                f"{nearest(target, sorted(names))}"
            )
    paths = [path for path in places if path.rpartition(".")[2] in chosen]
    settings = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type] # peft multiplies by it, a fraction is fine
        lora_dropout=dropout,
        target_modules=paths,
        fan_in_fan_out=any(type(model.get_submodule(path)).__name__ == "Conv1D" for path in paths),
    )
    kinds = {name: parameter.dtype for name, parameter in model.named_parameters()}
    try:
        inject_adapter_in_model(settings, model)  # freezes all but the adapters
    except ValueError as error:
        raise ConfigError(f"lora_targets: {type(model).__name__}: {error}") from None
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and name not in kinds and parameter.element_size() < 4:
            parameter.data = parameter.data.float()  # small steps vanish in 16 bits


def _meant(targets: Sequence[str], names: set[str]) -> tuple[str, ...]:
    """The names of linear layers that ``qkv``, ``linear`` or names themselves stand for."""
    found: list[str] = []
    for target in targets:
        if target in names or target not in ("linear", "qkv"):
            found.append(target)
        elif target == "linear":
            found += sorted(names)
        else:
            known = [each for each in _PROJECTIONS if names.issuperset(each)]
            if not known:
                raise ConfigError(
                    "lora_targets: qkv: no linear layers for queries, keys and values under a "
                    f"known name; choose from {', '.join(sorted(names))}"
                )
            found += known[0]
    return tuple(dict.fromkeys(found))


def default_targets(model: nn.Module) -> tuple[str, ...]:
    """Names of the linear layers that LoRA adapts by default.

    Projections to queries and values; where a kind calls them otherwise, what peft adapts of it;
    else every linear layer of its layers.
    """
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as KNOWN

    names = sorted({path.rpartition(".")[2] for path in linear_places(model)})
    config: Any = getattr(model, "config", None)
    of_peft: Any = KNOWN.get(getattr(config, "model_type", ""), ())
    queries_and_values = [each[::2] for each in _PROJECTIONS]  # LoRA, section 4.2
    for targets in [*queries_and_values, tuple(of_peft) if isinstance(of_peft, list) else ()]:
        if targets and all(target in names for target in targets):
            return targets
    mixes = any(path.endswith(".conv1d") for path, _ in model.named_modules())
    # fused kernels of state space models read the weight of this one past any adapter
    return tuple(name for name in names if not (mixes and name == "out_proj"))


def merge_lora(model: nn.Module) -> None:
    """Add adapters to the weights they stand beside and remove them, in place."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            adapter: Any = module
            adapter.merge()
            model.set_submodule(name, adapter.get_base_layer())


def lora_parameters(model: nn.Module) -> list[Tensor]:
    """The adapters' parameters."""
    return [parameter for name, parameter in model.named_parameters() if "lora_" in name]


def linear_places(model: nn.Module) -> list[str]:
    """Dotted names of the linear layers inside the layers that run."""
    lists = [path for path, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    below = layers_below(model)
    return [
        path
        for path, module in model.named_modules()
        if (isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D")
        and any(path.startswith(f"{each}.") for each in lists)
        and not any(path.startswith(f"{each}.") for each in below)
    ]


class QuantisedLinear(nn.Linear):
    """A linear layer that is not trained, of torch or ``Conv1D`` of transformers.

    Its weight holds codes, ``(out, in)`` int8 or ``(out * in / 2,)`` uint8.
    """

    def __init__(self, linear: nn.Module, kind: Quantised) -> None:
        nn.Module.__init__(self)
        given: Any = linear
        weight: Tensor = given.weight.detach()
        # (out, in); Conv1D's lies transposed
        weight = weight.T if type(linear).__name__ == "Conv1D" else weight
        self.kind = kind
        self.out_features, self.in_features = weight.shape
        codes, scales = _quantised(weight, kind)
        self.weight = nn.Parameter(codes, requires_grad=False)
        # float32 numbers by their bits: a cast of the model's dtype must not round them
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
        scales, shape = self.scales.view(torch.float32), (self.out_features, self.in_features)
        if self.kind == "int8":
            return (self.weight * scales[:, None]).to(dtype)
        if self.weight.is_meta:
            return self.weight.new_empty(shape, dtype=dtype)
        from bitsandbytes.functional import QuantState, dequantize_4bit

        state = QuantState(scales, shape=shape, dtype=dtype, blocksize=_BLOCK, quant_type="nf4")
        found: Tensor = dequantize_4bit(self.weight[:, None], state)
        return found


def _quantised(weight: Tensor, kind: Quantised) -> tuple[Tensor, Tensor]:
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
    is_meta = any(parameter.is_meta for parameter in model.parameters())
    if kind == "nf4" and not is_meta and find_spec("bitsandbytes") is None:
        raise ConfigError(
            "quantised nf4: needs the package bitsandbytes; `pip install --no-deps bitsandbytes`"
        )
    kept = set(getattr(model, "_keep_in_fp32_modules", None) or ())  # T5 asks its weight's dtype
    for path in linear_places(model):
        if kept.isdisjoint(path.split(".")):
            model.set_submodule(path, QuantisedLinear(model.get_submodule(path), kind))
