"""Cross-entropy of a softmax over the rows of a table, without ever holding all logits."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from legos.data.ragged import Ragged

_SMALLEST = 1e-16  # sum of exponentials, to which those too small for fp32 add nothing
_UNSHIFTED = 40.0  # e to its power times a million items is far within the range of fp32


class CrossEntropy(NamedTuple):
    """What :func:`linear_cross_entropy` gives.

    Attributes:
        total: scalar, the sum over all rows; at least fp32.
        rows: ``(M,)`` of each row, without a gradient.
    """

    total: Tensor
    rows: Tensor


def linear_cross_entropy(
    states: Tensor, table: Tensor, targets: Ragged, *, max_logits: int
) -> CrossEntropy:
    """``-log softmax(states @ table.T)`` at the targets of each row, summed.

    Logits of a chunk of rows become the chunk's gradients at once and are dropped: two matrix
    products more than the loss alone, but no second pass (as fused linear cross-entropies, Hsu et
    al., "Liger Kernel", 2024, arXiv 2410.10989). Sums are at least fp32.

    Args:
        states: ``(M, D)``.
        table: ``(V, D)``; it gets a gradient where it wants one.
        targets: M rows of int64 rows of the table; a row of several sums over them.
        max_logits: logits held at once; at least one row is done at a time.

    Returns:
        0 without targets. ``total`` has one backward pass: a second one raises RuntimeError.
    """
    total, rows = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        states, table, targets.values, targets.offsets, max_logits
    )
    return CrossEntropy(total, rows)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        states: Tensor,
        table: Tensor,
        targets: Tensor,
        offsets: Tensor,
        max_logits: int,
    ) -> tuple[Tensor, Tensor]:
        device, kind = states.device.type, states.dtype
        if torch.is_autocast_enabled(device):
            kind = torch.get_autocast_dtype(device)
        exact = torch.promote_types(states.dtype, torch.float32)
        wants_states, wants_table = context.needs_input_grad[:2]
        weight = table.to(kind)
        shifts = _shifts(states, weight, exact)
        state_gradient = torch.empty_like(states) if wants_states else None
        table_gradient: Tensor | None = None
        losses = states.new_zeros(len(states), dtype=exact)
        total = states.new_zeros((), dtype=exact)
        pages = -(-len(states) * table.shape[0] // max_logits)
        step = max(1, -(-len(states) // max(1, pages)))  # even pages
        room = weight.new_empty(min(step, len(states)), len(weight))  # one for all pages
        bounds = offsets[torch.arange(0, len(states) + step, step).clamp(max=len(states))].tolist()
        with torch.autocast(device, enabled=False):
            for page, begin in enumerate(range(0, len(states), step)):
                chunk = states[begin : begin + step].to(kind)  # (m, D)
                counts = offsets[begin : begin + step + 1].diff()[:, None]  # (m, 1) targets
                wanted = targets[bounds[page] : bounds[page + 1]]  # (t,)
                owners = torch.arange(len(chunk), device=chunk.device).repeat_interleave(
                    counts[:, 0], output_size=len(wanted)
                )
                at = owners, wanted
                shift = None if shifts is None else shifts[begin : begin + step]
                error, logits, sums = _exponentials(
                    chunk, weight, shift, exact, at, room[: len(chunk)]
                )
                apart = sums.log()[owners, 0] - logits  # (t,)
                total += apart.sum()
                losses[begin : begin + step].index_add_(0, owners, apart)
                if not (wants_states or wants_table):
                    continue
                scale = counts / sums  # (m, 1) of the exponentials: cheaper applied to the products
                if kind != exact:  # which would leave the range of half precision
                    error.mul_(scale)
                    sums, scale = counts.to(exact), scale.new_ones(())  # keeps half precision
                error.index_put_(at, (-sums / counts)[owners, 0], accumulate=True)
                error = error.to(kind)
                if state_gradient is not None:
                    state_gradient[begin : begin + step] = (error @ weight) * scale
                if wants_table:
                    table_gradient = _add_product(table_gradient, error, chunk * scale, exact)
        if wants_table and table_gradient is None:
            table_gradient = torch.zeros_like(table, dtype=exact)
        context.save_for_backward(state_gradient, table_gradient)
        context.table_dtype, context.spent = table.dtype, False
        context.mark_non_differentiable(losses)
        return total, losses

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        if context.spent:
            raise RuntimeError("the gradients are scaled where they are: only one backward pass")
        context.spent = True
        state_gradient, table_gradient = context.saved_tensors
        outer = gradients[0]
        if state_gradient is not None:
            state_gradient.mul_(outer)
        if table_gradient is not None:
            table_gradient = table_gradient.mul_(outer).to(context.table_dtype)
        return state_gradient, table_gradient, None, None, None


def _add_product(total: Tensor | None, error: Tensor, states: Tensor, exact: torch.dtype) -> Tensor:
    """``error.T @ states``, ``(V, D)`` of dtype ``exact``, added in place to earlier pages' sum.

    Args:
        total: None for the first page.
        error: ``(m, V)``.
        states: ``(m, D)``.
        exact: dtype of the sum.
    """
    if total is None:
        return (error.T @ states).to(exact)
    if error.dtype == exact:
        return total.addmm_(error.T, states)
    total += (error.T @ states).to(exact)
    return total


def _shifts(states: Tensor, table: Tensor, exact: torch.dtype) -> Tensor | None:
    """At least the largest logit of each row, ``(M, 1)``: a product of norms.

    None where all are so small that exponentials need no shift.
    """
    longest = torch.linalg.vector_norm(table, dim=1, dtype=exact).amax()
    bounds = longest * torch.linalg.vector_norm(states, dim=1, keepdim=True, dtype=exact)
    return None if bool((bounds <= _UNSHIFTED).all()) else bounds


def _exponentials(
    states: Tensor,
    table: Tensor,
    shift: Tensor | None,
    exact: torch.dtype,
    at: tuple[Tensor, Tensor],
    room: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Exponentials of logits, each row shifted by a number of its own.

    Norms bound the logits without a pass over all of them. Where the bound is so far above a row's
    logits that small terms vanish, the shift is the row's largest logit.

    Args:
        states: ``(m, D)``.
        table: ``(V, D)``.
        shift: ``(m, 1)``, see :func:`_shifts`.
        exact: dtype of what is given.
        at: two ``(t,)`` int64, rows and columns.
        room: ``(m, V)`` of the states' dtype, overwritten.

    Returns:
        ``(m, V)``, which may be ``room``; the shifted logits at ``at``, ``(t,)``; sums ``(m, 1)``.
    """
    values = torch.mm(states, table.T, out=room).to(exact)
    if shift is None:
        own = values[at]
        return values.exp_(), own, values.sum(1, keepdim=True)
    values.sub_(shift)
    own = values[at]
    sums = values.exp_().sum(1, keepdim=True)
    if bool((sums > _SMALLEST).all()):
        return values, own, sums
    values = torch.mm(states, table.T, out=room).to(exact)
    values.sub_(values.amax(1, keepdim=True))
    own = values[at]
    return values.exp_(), own, values.sum(1, keepdim=True)
