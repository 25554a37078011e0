"""Cross-entropy over a large vocabulary without ever holding all logits.

Logits of a chunk of positions are made, turned into the chunk's gradients at once, and dropped: two
matrix products more than the loss alone, but no second pass (the scheme of fused linear
cross-entropies, Hsu et al., "Liger Kernel", 2024, arXiv 2410.10989). Sums are fp32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MAX_LOGITS = 2**24  # held at once: 64 MB


def linear_cross_entropy(
    states: Tensor, table: Tensor, targets: Tensor, *, max_logits: int = MAX_LOGITS
) -> Tensor:
    """Summed ``-log softmax(states @ table.T)[targets]``.

    Args:
        states: ``(M, D)``.
        table: ``(V, D)``; it gets a gradient where it wants one.
        targets: ``(M,)`` int64 rows of the table.
        max_logits: logits held at once; at least one position is done at a time.

    Returns:
        fp32 scalar; 0 without positions.
    """
    function: Any = _LinearCrossEntropy
    result: Tensor = function.apply(states, table, targets, max_logits)
    return result


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, states: Tensor, table: Tensor, targets: Tensor, max_logits: int
    ) -> Tensor:
        device = states.device.type
        kind = states.dtype
        if torch.is_autocast_enabled(device):
            kind = torch.get_autocast_dtype(device)
        wants_states, wants_table = context.needs_input_grad[:2]
        weight = table.to(kind)
        state_gradient = torch.empty_like(states) if wants_states else None
        table_gradient = torch.zeros_like(table, dtype=torch.float32) if wants_table else None
        total = states.new_zeros((), dtype=torch.float32)
        step = max(1, max_logits // table.shape[0])
        with torch.autocast(device, enabled=False):
            for begin in range(0, len(states), step):
                chunk = states[begin : begin + step].to(kind)  # (m, D)
                wanted = targets[begin : begin + step, None]
                logits = (chunk @ weight.T).float()  # (m, V)
                normaliser = logits.logsumexp(1, keepdim=True)
                total += (normaliser - logits.gather(1, wanted)).sum()
                if not (wants_states or wants_table):
                    continue
                error = logits.sub_(normaliser).exp_()  # softmax minus one-hot, in place
                error.scatter_add_(1, wanted, error.new_full(wanted.shape, -1.0))
                error = error.to(kind)
                if state_gradient is not None:
                    state_gradient[begin : begin + step] = error @ weight
                if table_gradient is not None:
                    table_gradient += (error.T @ chunk).float()
        context.save_for_backward(state_gradient, table_gradient)
        context.table_dtype = table.dtype
        return total

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        state_gradient, table_gradient = context.saved_tensors
        (outer,) = gradients
        of_states = None if state_gradient is None else state_gradient * outer
        of_table = None
        if table_gradient is not None:
            of_table = (table_gradient * outer).to(context.table_dtype)
        return of_states, of_table, None, None
