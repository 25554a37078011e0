"""Cross-entropy of a softmax over the rows of a table, without ever holding all logits."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from legos.data.ragged import Ragged

_SMALLEST = 1e-16  # sum of exponentials, to which those too small for fp32 add nothing


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
        longest = torch.linalg.vector_norm(weight, dim=1, dtype=exact).amax()
        state_gradient = torch.empty_like(states) if wants_states else None
        table_gradient: Tensor | None = None
        losses = states.new_zeros(len(states), dtype=exact)
        total = states.new_zeros((), dtype=exact)
        step = max(1, max_logits // table.shape[0])
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
                error, logits, sums = _exponentials(chunk, weight, longest, exact, at)
                apart = sums.log()[owners, 0] - logits  # (t,)
                total += apart.sum()
                losses[begin : begin + step].index_add_(0, owners, apart)
                if not (wants_states or wants_table):
                    continue
                scale = counts / sums  # (m, 1) of the exponentials: cheaper applied to the products
                if kind != exact:  # which would leave the range of half precision
                    error.mul_(scale)
                    sums, scale = counts.to(exact), torch.ones_like(scale)
                error.index_put_(at, (-sums / counts)[owners, 0], accumulate=True)
                error = error.to(kind)
                if state_gradient is not None:
                    state_gradient[begin : begin + step] = (error @ weight) * scale
                if wants_table and table_gradient is None:  # of the first chunk
                    table_gradient = (error.T @ (chunk * scale)).to(exact)
                elif table_gradient is not None and kind == exact:
                    table_gradient.addmm_(error.T, chunk * scale)
                elif table_gradient is not None:
                    table_gradient += (error.T @ chunk).to(exact)
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


def _exponentials(
    states: Tensor, table: Tensor, longest: Tensor, exact: torch.dtype, at: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Exponentials of logits, each row shifted by a number of its own.

    No logit is larger than the product of two norms, which costs no pass over all of them; only
    where that is so far above them that small terms vanish is the shift the largest logit.

    Args:
        states: ``(m, D)``.
        table: ``(V, D)``.
        longest: scalar, the largest norm of a row of the table.
        exact: dtype of what is given.
        at: two ``(t,)`` int64, rows and columns.

    Returns:
        ``(m, V)``; the shifted logits at ``at``, ``(t,)``; sums ``(m, 1)``.
    """
    bound = -longest * torch.linalg.vector_norm(states, dim=1, keepdim=True, dtype=exact)  # (m, 1)
    if states.dtype == exact:
        values = torch.addmm(bound, states, table.T)
    else:
        values = (states @ table.T).to(exact).add_(bound)
    own = values[at]
    sums = values.exp_().sum(1, keepdim=True)
    if bool((sums > _SMALLEST).all()):
        return values, own, sums
    values = (states @ table.T).to(exact)
    values.sub_(values.amax(1, keepdim=True))
    own = values[at]
    return values.exp_(), own, values.sum(1, keepdim=True)
