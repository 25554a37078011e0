"""Measurements of how strongly mutual regularisation couples the two sets of tables.

A weight says little by itself: with reduction `paper` and weight 1 the pull may be a few hundredths
of what the language model asks for, and with `public_code` many times as much.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from legos.evaluation.measure import evaluating
from legos.systems.cllm4rec.batches import PromptBatch
from legos.systems.cllm4rec.losses import LossParts, combine
from legos.systems.cllm4rec.model import Cllm4Rec

_MOST, _EVERY = 4, 20  # steps that are measured: at most so many, and at most one in so many
NAMES = ("users", "items")


def measured_steps(steps: int) -> int:
    """Number of a pass's steps that are recomputed to measure their gradients."""
    return max(1, min(_MOST, steps // _EVERY))


def gradient_ratios(
    model: Cllm4Rec,
    task: str,
    steps: Iterable[Sequence[PromptBatch]],
    autocast: AbstractContextManager[None],
) -> dict[str, float]:
    """Norm of mutual regularisation's gradient over that of the likelihood's, by table.

    Both are gradients of the loss that is trained on, weights included, with respect to the tables
    that learn in the task, without dropout. No gradient, weight or random state changes.

    Args:
        model: not wrapped.
        task: as in :meth:`Cllm4Rec.forward`.
        steps: each the parts of one step's batch; regularisation is counted in them as in training.
        autocast: the precision of training; entered once.

    Returns:
        ``gradient_ratio/users`` and ``gradient_ratio/items``, root mean squares over the steps; a
        table that no likelihood reaches has none.
    """
    own = model.content if task == "content" and model.content else model.collaborative
    tables = [own.user.weight, own.item.weight]
    squares = torch.zeros(2, len(tables), dtype=torch.float64)  # pull and likelihood, by table
    with evaluating(model), autocast:
        for parts in steps:
            squares += _squared_norms(model, task, parts, tables)
    pull, likelihood = squares.sqrt()
    found = zip(NAMES, (pull / likelihood).tolist(), strict=True)
    return {f"gradient_ratio/{name}": value for name, value in found if math.isfinite(value)}


def _squared_norms(
    model: Cllm4Rec, task: str, batches: Sequence[PromptBatch], tables: list[Tensor]
) -> Tensor:
    """``(2, tables)`` float64: of regularisation and of the likelihood, over one step's batches."""
    total = [[torch.zeros_like(each) for each in tables] for _ in range(2)]
    count = 0
    for batch in batches:
        parts = model(batch, task)
        count += parts.divisor
        for sums, value in zip(total, (parts.regularisation, parts.likelihood), strict=True):
            if value.requires_grad:
                for found, each in zip(sums, _gradients(value, tables), strict=True):
                    found += each
    one, none = torch.ones(()), torch.zeros(())
    factors = [  # a loss is a weighted sum of its parts
        combine(LossParts(none, count, one, none), model.settings.mutual),
        combine(LossParts(one, count, none, none), model.settings.mutual),
    ]
    norms = torch.stack([torch.stack([each.float().norm() for each in sums]) for sums in total])
    return (norms.cpu().double() * torch.stack(factors)[:, None]) ** 2


def _gradients(value: Tensor, tables: list[Tensor]) -> Sequence[Tensor]:
    return torch.autograd.grad(value, tables, retain_graph=True, materialize_grads=True)


@torch.no_grad()
def mean_cosines(model: Cllm4Rec) -> dict[str, float]:
    """``cosine/users`` and ``cosine/items``: of collaborative and content vectors of the same."""
    ours, theirs = model.collaborative, model.content
    if theirs is None:
        return {}
    pairs = ((ours.user, theirs.user), (ours.item, theirs.item))
    means = (cosine_similarity(a.weight.float(), b.weight.float()).mean() for a, b in pairs)
    return {f"cosine/{name}": float(mean) for name, mean in zip(NAMES, means, strict=True)}
