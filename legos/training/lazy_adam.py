"""Adam that updates only the rows of a table that a step reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam


class LazyAdam(Adam):
    """Adam that updates only the rows in the gradient, for parameters with sparse gradients.

    Moments of other rows do not decay, and those rows do not drift on by them, as in
    ``torch.optim.SparseAdam``, whose bias correction by the number of all steps this has, too.
    A step then takes time in proportion to the rows it reads, not to the table. Weight decay is
    that of Adam, of those rows. Dense gradients are Adam's. The state is that of Adam, so that
    checkpoints are read by either.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step; sparse gradients are used up."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    self._step_rows(parameter, group)
                    parameter.grad = None  # Adam refuses sparse ones
        return super().step(closure)

    def _step_rows(self, table: nn.Parameter, group: dict[str, Any]) -> None:
        """Adam's algorithm 1 (Kingma and Ba, ICLR 2015) on the rows of a gradient."""
        if table.grad is None:
            raise ValueError("a table without a gradient")
        gradient, state = table.grad.coalesce(), self.state[table]
        if not state:
            state["step"] = torch.zeros((), device=table.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
        rows, values = gradient.indices()[0], gradient.values()
        state["step"] += 1
        count, (beta, beta_square) = float(state["step"]), group["betas"]
        old, mean, square = (
            each.index_select(0, rows) for each in (table, state["exp_avg"], state["exp_avg_sq"])
        )
        if group["weight_decay"]:
            values = values.add(old, alpha=group["weight_decay"])
        mean.lerp_(values, 1 - beta)
        square.mul_(beta_square).addcmul_(values, values, value=1 - beta_square)
        scale = (square / (1 - beta_square**count)).sqrt_().add_(group["eps"])
        old.addcdiv_(mean, scale, value=-group["lr"] / (1 - beta**count))
        table.index_copy_(0, rows, old)
        state["exp_avg"].index_copy_(0, rows, mean)
        state["exp_avg_sq"].index_copy_(0, rows, square)


@torch.no_grad()
def clip_sparse_norm(parameters: Iterable[nn.Parameter], clip: float) -> Tensor:
    """``torch.nn.utils.clip_grad_norm_`` for sparse gradients, too; returns the norm before."""
    parts = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            parts.append(parameter.grad.values())
        elif parameter.grad is not None:
            parts.append(parameter.grad)
    norm = nn.utils.get_total_norm(parts)
    scale = (clip / (norm + 1e-6)).clamp(max=1.0)
    for part in parts:
        part.mul_(scale)
    return norm
