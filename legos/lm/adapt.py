"""What of a language model is trained: LoRA adapters, everything that is left of it, or nothing.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022; by peft.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from legos.errors import ConfigError, nearest

_DEFAULT_TARGETS = (  # what families call the projections to queries and values (LoRA, section 4.2)
    ("q_proj", "v_proj"),
    ("query", "value"),
    ("query_key_value",),
    ("c_attn",),
    ("q", "v"),
)


def freeze(model: nn.Module) -> None:
    """Train nothing of it."""
    model.requires_grad_(False)


def add_lora(
    model: nn.Module, *, rank: int, alpha: float, dropout: float, targets: Sequence[str] = ()
) -> None:
    """Freeze a model and put LoRA adapters beside its linear layers, in place.

    Args:
        model: usually cut before, so that only layers that run are adapted.
        rank: r.
        alpha: adapters count alpha / r times.
        dropout: rate on their input.
        targets: last parts of the names of linear layers; none: queries and values.

    Raises:
        ConfigError: no linear layer is called so.
    """
    from peft import LoraConfig, inject_adapter_in_model

    names = _linear_names(model)
    chosen = tuple(targets) or default_targets(names)
    unknown = [target for target in chosen if target not in names]
    if unknown or not chosen:
        missing = unknown[0] if unknown else ""
        raise ConfigError(
            f"lora_targets: no linear layer is called {missing!r}; {nearest(missing, names)}"
        )
    settings = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type] # peft multiplies by it, a fraction is fine
        lora_dropout=dropout,
        target_modules=list(chosen),
        fan_in_fan_out=any(type(m).__name__ == "Conv1D" for m in model.modules()),
    )
    kinds = {name: parameter.dtype for name, parameter in model.named_parameters()}
    inject_adapter_in_model(settings, model)  # freezes all but the adapters
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and name not in kinds and parameter.element_size() < 4:
            parameter.data = parameter.data.float()  # small steps vanish in 16 bits


def default_targets(names: Sequence[str]) -> tuple[str, ...]:
    """Projections to queries and values under the names a model uses."""
    for targets in _DEFAULT_TARGETS:
        if all(target in names for target in targets):
            return targets
    return ()


def merge_lora(model: nn.Module) -> None:
    """Add adapters to the weights they stand beside and remove them, in place."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            mergeable: Any = module
            mergeable.merge()
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, mergeable.get_base_layer())


def lora_parameters(model: nn.Module) -> list[Tensor]:
    """The adapters' parameters."""
    return [parameter for name, parameter in model.named_parameters() if "lora_" in name]


def _linear_names(model: nn.Module) -> list[str]:
    kinds = (nn.Linear,)
    found = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, kinds)
        or type(module).__name__ in ("Conv1D", "Linear8bitLt", "Linear4bit")
    }
    return sorted(found)
