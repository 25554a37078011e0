"""Distributed training: the gradients of a model are those of the whole step on all processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, broadcast_object_list
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from legos.training.lazy_adam import clip_sparse_norm
from legos.training.weights import whole

_BUCKET = 2**24  # gradients averaged at once: few messages, and a copy of no more than these


class Replicas:
    """A model and its optimizers, prepared for device, precision and processes.

    Args:
        accelerator: of the processes.
        module: its ``forward`` computes what a loss is made of.
        optimizers: by name.
        trained: the part of ``module`` that a checkpoint stores; None: all of it.
        by_hand: its parts are called instead of its ``forward``, so that no wrapper would see the
            backward pass; gradients are then averaged after it, as where layers are shared out.

    Attributes:
        accelerator: of the processes.
        module: wrapped where there are several processes.
        optimizers: by name, those of torch.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        module: nn.Module,
        optimizers: Mapping[str, Optimizer],
        *,
        trained: nn.Module | None = None,
        by_hand: bool = False,
    ) -> None:
        self.accelerator = accelerator
        shared_out = is_shared_out(module)
        self._by_hand = (by_hand or shared_out) and not self.alone
        self.module: nn.Module = accelerator.prepare_model(
            module, device_placement=not shared_out, evaluation_mode=self._by_hand
        )
        self.optimizers = dict(optimizers)
        self._scaling = {
            name: accelerator.prepare_optimizer(each) for name, each in optimizers.items()
        }
        self._trained = trained

    @property
    def alone(self) -> bool:
        """Whether there is only this process."""
        return bool(self.accelerator.num_processes == 1)

    @property
    def bare(self) -> Any:
        """The module without the wrapper of many processes."""
        return self.accelerator.unwrap_model(self.module)

    @property
    def trained(self) -> nn.Module:
        """The part that a checkpoint stores."""
        if self._trained is not None:
            return self._trained
        bare: nn.Module = self.bare
        return bare

    @property
    def scales_gradients(self) -> bool:
        """Whether a gradient that overflows is skipped and scaled down (fp16)."""
        return self.accelerator.scaler is not None

    def accumulating(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Context of a backward pass; the last one of a step averages gradients over processes."""
        if self.alone or is_last or self._by_hand:
            return nullcontext()
        context: AbstractContextManager[None] = self.accelerator.no_sync(self.module)
        return context

    def backward(self, loss: Tensor, share: float) -> None:
        """Add the gradient of ``share`` times a loss, as part of a sum over all processes."""
        # processes' gradients are averaged; times their number they are summed
        loss = loss * (self.accelerator.num_processes * share)
        if self.scales_gradients:
            self.accelerator.backward(loss)
        else:
            loss.backward()  # accelerate's own call looks for packages on every step

    def finish(self, clip: float | None, name: str) -> float:
        """Average gradients if this is still to be done, and clip them.

        Args:
            clip: largest global norm; None: no clipping.
            name: of the optimizer that steps next. Its gradients alone lose the scale of fp16: what
                two optimizers share (CLLM4Rec's adapters) would lose it twice.

        Returns:
            the norm before; 0 without clipping.
        """
        if self._by_hand:
            average_gradients(self.bare, self.accelerator)
        if clip is None:
            return 0.0
        parameters = list(self.module.parameters())
        if any(each.grad is not None and each.grad.is_sparse for each in parameters):
            return float(clip_sparse_norm(parameters, clip))
        if not self.scales_gradients:
            return float(whole(self.accelerator.clip_grad_norm_(parameters, clip)))
        self.accelerator.unscale_gradients(self._scaling[name])  # its own call unscales for all
        return float(nn.utils.clip_grad_norm_(parameters, clip))

    def step(self, name: str) -> None:
        """Take a step with an optimizer and forget the gradients."""
        inner = self.optimizers[name]
        (self._scaling[name] if self.scales_gradients else inner).step()
        inner.zero_grad()

    def summed(self, numbers: Sequence[Tensor | float]) -> list[float]:
        """Each number summed over all processes."""
        device = self.accelerator.device
        message = torch.stack(
            [torch.as_tensor(each, dtype=torch.float64, device=device) for each in numbers]
        )
        if not self.alone:
            message = self.accelerator.reduce(message)
        total: list[float] = message.tolist()
        return total

    def of_main(self, value: Any) -> Any:
        """Broadcast a value of the main process."""
        return value if self.alone else broadcast_object_list([value])[0]

    def any(self, flag: bool) -> bool:
        """Whether any process raises a flag."""
        return flag if self.alone else self.summed([flag])[0] > 0

    def release(self) -> None:
        """Release the model from the accelerator, to free its memory."""
        self.accelerator.free_memory()


def is_shared_out(module: nn.Module) -> bool:
    """Whether processes have shares of parameters (FSDP2), which are gathered when used."""
    return any(isinstance(each, DTensor) for each in module.parameters())


def rank_part(rows: Tensor, rank: int, world_size: int) -> tuple[Tensor, int]:
    """The contiguous part of a micro-batch that one process takes.

    Returns:
        The rows to compute and how many of them count. A process for which nothing is left computes
        one row that does not count, because every process must take part in every backward pass.
    """
    part = torch.tensor_split(rows, world_size)[rank]
    return (part, part.numel()) if part.numel() else (rows[:1], 0)


@torch.no_grad()
def average_gradients(model: nn.Module, accelerator: Accelerator) -> None:
    """Average gradients over processes as a wrapped model does, whose hooks were not called.

    A missing gradient counts as zero, but stays missing where no process has one. Buffers of
    numbers (running statistics) become those of the first process.

    Args:
        model: the same in every process, not wrapped; shares of parameters have their gradients.
        accelerator: of the processes.
    """
    trained = [
        each for each in model.parameters() if each.requires_grad and not isinstance(each, DTensor)
    ]
    present = torch.tensor([parameter.grad is not None for parameter in trained]).float()
    anywhere = accelerator.reduce(present.to(accelerator.device)).tolist()
    shared = [parameter for parameter, count in zip(trained, anywhere, strict=True) if count]
    for bucket in _buckets(shared):
        for parameter in bucket:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in bucket if parameter.grad is not None]
        flat = accelerator.reduce(torch.cat([part.flatten() for part in gradients]), "mean")
        parts = flat.split([part.numel() for part in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
    for buffer in model.buffers():
        if buffer.is_floating_point():
            broadcast(buffer)


def _buckets(parameters: list[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Parameters of one dtype each, in order, of at most ``_BUCKET`` numbers or alone."""
    bucket: list[nn.Parameter] = []
    for parameter in sorted(parameters, key=lambda each: str(each.dtype)):
        size = sum(each.numel() for each in bucket) + parameter.numel()
        if bucket and (size > _BUCKET or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket
