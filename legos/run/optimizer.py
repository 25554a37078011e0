"""Adam or AdamW with one learning rate for language models and one for everything else."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn
from torch.optim import Adam, AdamW, Optimizer


def build_optimizer(
    model: nn.Module,
    *,
    name: Literal["adam", "adamw"],
    lr: float,
    item_lr: float | None,
    weight_decay: float,
) -> Optimizer:
    """Put every trained parameter into a group with its learning rate and decay.

    A module whose attribute ``is_language_model`` is true learns at ``item_lr``. Biases, gains and
    other vectors do not decay. A group keeps its peak learning rate as ``peak_lr``.
    """
    of_language_model = {
        parameter
        for module in model.modules()
        if getattr(module, "is_language_model", False)
        for parameter in module.parameters()
    }
    groups: dict[tuple[bool, bool], dict[str, Any]] = {}
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        pretrained, decays = parameter in of_language_model, parameter.dim() > 1
        rate = item_lr if pretrained and item_lr is not None else lr
        decay = weight_decay if decays else 0.0
        empty = {"params": [], "lr": rate, "peak_lr": rate, "weight_decay": decay}
        groups.setdefault((pretrained, decays), empty)["params"].append(parameter)
    kind = AdamW if name == "adamw" else Adam
    # fused: one kernel for all parameters, on the CPU too
    return kind(list(groups.values()), lr=lr, fused=True)


def set_learning_rate(optimizer: Optimizer, factor: float) -> None:
    """Give every group ``factor`` times its peak learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
