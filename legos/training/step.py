"""One optimizer step, in one process or many."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch

from legos.training.learning_rate import set_learning_rate
from legos.training.recipe import Loss, Recipe


def take_step(recipe: Recipe, flags: Sequence[bool] = ()) -> tuple[dict[str, float], list[bool]]:
    """Take one optimizer step over its pieces.

    Args:
        recipe: what the step consists of.
        flags: what this process tells all others.

    Returns:
        What to log and, for each flag, whether any process raised it: they agree on it in the
        message that sums the loss.

    Raises:
        LegosError: the loss or the gradient is not finite.
    """
    begin = time.perf_counter()
    replicas, step = recipe.replicas, recipe.next_step()
    set_learning_rate(replicas.optimizers[step.optimizer], step.rate)
    losses: list[Loss] = []
    for number, piece in enumerate(step.pieces, start=1):
        with replicas.accumulating(is_last=number == len(step.pieces)):
            loss = recipe.loss(piece)
            replicas.backward(loss.value, step.share)
            if loss.backward is not None:
                loss.backward()
        losses.append(loss._replace(value=loss.value.detach()))
    counts = [sum(each) for each in zip(*(loss.counts for loss in losses), strict=True)]
    total = torch.stack([loss.value for loss in losses]).sum()
    loss_sum, *rest = replicas.summed([total, *counts, *flags])
    norm = replicas.finish(step.clip)
    if not math.isfinite(loss_sum) or not (math.isfinite(norm) or replicas.scales_gradients):
        raise recipe.not_finite(step, losses, norm)
    replicas.step(step.optimizer)
    log = recipe.count(loss_sum, rest[: len(counts)], time.perf_counter() - begin)
    if step.clip is not None and math.isfinite(norm):
        log["gradient_norm"] = norm
    return log, [flag > 0 for flag in rest[len(counts) :]]
