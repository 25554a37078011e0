"""Adam or AdamW whose parameters have learning rates and decays of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from torch import nn
from torch.optim import Adam, AdamW, Optimizer

Rule = Callable[[str, nn.Parameter], Mapping[str, Any]]
"""By the name of a parameter and itself the settings of its group: ``lr``, ``weight_decay``, ..."""


def build_optimizer(
    parameters: Iterable[tuple[str, nn.Parameter]],
    rule: Rule,
    *,
    name: Literal["adam", "adamw"] = "adam",
    fused: bool | None = True,
) -> Optimizer:
    """Put parameters of the same settings into one group, which keeps its ``lr`` as ``peak_lr``.

    Args:
        parameters: by name; frozen ones are left out.
        rule: settings of each.
        name: AdamW's decay is decoupled from the gradient.
        fused: one kernel for all parameters, on the CPU too; it rounds differently.
    """
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for key, parameter in parameters:
        if parameter.requires_grad:
            settings = rule(key, parameter)
            empty = {"params": [], **settings, "peak_lr": settings["lr"]}
            groups.setdefault(tuple(settings.items()), empty)["params"].append(parameter)
    kind = AdamW if name == "adamw" else Adam
    return kind(list(groups.values()), fused=fused)


def decays(parameter: nn.Parameter) -> bool:
    """Whether weight decay applies: to matrices, not to biases, gains and other vectors."""
    return parameter.dim() > 1


def learning_rate_factor(step: int, *, total: int, warmup: float, schedule: str) -> float:
    """The share of the peak learning rate used at a step.

    Args:
        step: counted from 0.
        total: steps of the whole training.
        warmup: fraction of ``total`` over which the rate rises linearly from 0.
        schedule: "constant" or "linear" (down to 0 at ``total``) after the warm-up.
    """
    warmup_steps = round(warmup * total)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "linear":
        return max(0.0, (total - step) / max(1, total - warmup_steps))
    return 1.0


def set_learning_rate(optimizer: Optimizer, factor: float) -> None:
    """Give every group ``factor`` times its peak learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
