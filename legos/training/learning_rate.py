"""The learning rate of a step."""

from __future__ import annotations

from torch.optim import Optimizer


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
