"""Adam or AdamW with learning rates and weight decays by parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import Adam, AdamW, Optimizer

from legos.training.lazy_adam import LazyAdam

if TYPE_CHECKING:
    from legos.config.train_schema import TrainConfig

_ADAMS: dict[str, type[Adam]] = {"adam": Adam, "adamw": AdamW, "lazy_adam": LazyAdam}
Group = Literal["", "item", "adapters", "soft_tokens"]
"""Parameters with a learning rate of their own, ``exp.train.<group>_lr``; "": all others."""


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies: to matrices, not to biases, gains and other vectors."""
    del name
    return parameter.dim() > 1


def build_optimizer(
    parameters: Iterable[tuple[str, nn.Parameter]],
    train: TrainConfig,
    group: Callable[[str, nn.Parameter], Group],
    *,
    decays: Callable[[str, nn.Parameter], bool] = decays,
    fused: bool | None = True,
) -> Optimizer:
    """Put parameters of the same settings into one group, which keeps its ``lr`` as ``peak_lr``.

    Args:
        parameters: by name; frozen ones are left out.
        train: optimizer, learning rates and weight decay.
        group: of each parameter; ``follows`` says whether it learns as ``train.lr`` says.
        decays: whether weight decay applies to it.
        fused: one kernel for all parameters, on the CPU too; it rounds differently.
    """
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, parameter in parameters:
        if parameter.requires_grad:
            kind = group(name, parameter)
            own = getattr(train, f"{kind}_lr") if kind else None
            lr = train.lr if own is None else own
            decay = train.weight_decay if decays(name, parameter) else 0.0
            key = {"lr": lr, "peak_lr": lr, "weight_decay": decay, "follows": own is None}
            shared_out = isinstance(parameter, DTensor)  # no kernel takes both kinds
            found = groups.setdefault((shared_out, *key.values()), {"params": [], **key})
            found["params"].append(parameter)
    return _ADAMS[train.optimizer](list(groups.values()), fused=fused)


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
