"""One model on all processes of a training: its gradients are those of the whole step."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, broadcast, broadcast_object_list
from torch import Tensor, nn
from torch.optim import Optimizer

from legos.errors import ConfigError
from legos.training.weights import load_model_tensors, model_tensors

_BUCKET = 2**24  # gradients averaged at once: few messages, and a copy of no more than these


class Replicas:
    """A model and its optimizers, prepared for device, precision and processes.

    Args:
        accelerator: of the processes.
        module: its ``forward`` computes what a loss is made of.
        optimizers: by name.
        trained: the part of ``module`` that a checkpoint stores; None: all of it.
        by_hand: its parts are called instead of its ``forward``, so that no wrapper sees the
            backward pass; gradients are then averaged after it.
        may_shard: whether everything that is done with the model also holds for shards.

    Attributes:
        accelerator: of the processes.
        module: wrapped where there are several processes.
        optimizers: by name, those of torch.

    Raises:
        ConfigError: FSDP version 1, or a module that may not be sharded.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        module: nn.Module,
        optimizers: Mapping[str, Optimizer],
        *,
        trained: nn.Module | None = None,
        by_hand: bool = False,
        may_shard: bool = False,
    ) -> None:
        sharded = accelerator.distributed_type == DistributedType.FSDP
        if sharded and not accelerator.is_fsdp2:
            raise ConfigError("FSDP version 1 is not supported; set fsdp_version: 2 for accelerate")
        if sharded and not may_shard:
            raise ConfigError(
                "FSDP: this system trains on several processes, but does not shard its parameters; "
                "start it with torchrun or accelerate launch --multi_gpu"
            )
        self.accelerator = accelerator
        self._whole = copy.deepcopy(module).to(accelerator.device) if sharded else None
        prepared = accelerator.prepare(module, *optimizers.values())
        self.module: nn.Module = prepared[0]
        self._scaling = dict(zip(optimizers, prepared[1:], strict=True))
        self.optimizers = {name: each.optimizer for name, each in self._scaling.items()}
        self._trained = trained
        self._by_hand = by_hand and not self.alone

    @property
    def alone(self) -> bool:
        """Whether there is only this process."""
        return bool(self.accelerator.num_processes == 1)

    @property
    def bare(self) -> Any:
        """The module without the wrapper of many processes; its parameters may be shards."""
        return self.accelerator.unwrap_model(self.module)

    @property
    def trained(self) -> nn.Module:
        """The part that a checkpoint stores."""
        if self._trained is not None:
            return self._trained
        bare: nn.Module = self.bare
        return bare

    @property
    def to_call(self) -> Any:
        """The module to call in a step."""
        return self.bare if self._by_hand else self.module

    @property
    def scales_gradients(self) -> bool:
        """Whether a gradient that overflows is skipped and scaled down (fp16)."""
        return self.accelerator.scaler is not None

    def whole(self) -> Any:
        """The module to score with: where parameters are sharded (FSDP), a complete copy.

        Scoring calls parts of the module, and only a call of the whole gathers its shards.
        """
        if self._whole is None:
            return self.bare
        load_model_tensors(self._whole, model_tensors(self.bare), origin="shards")
        return self._whole

    def accumulating(self, *, is_last: bool) -> AbstractContextManager[None]:
        """A backward pass; gradients are averaged over processes in the last one of a step."""
        if self.alone or (is_last and not self._by_hand):
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

    def finish(self, clip: float | None) -> float:
        """Average gradients where that is still to be done, and clip them.

        Args:
            clip: largest global norm; None: no clipping.

        Returns:
            the norm before; 0 without clipping.
        """
        if self._by_hand:
            average_gradients(self.bare, self.accelerator)
        if clip is None:
            return 0.0
        parameters = self.module.parameters()
        return float(self.accelerator.clip_grad_norm_(parameters, clip))

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
        """What the main process has, in every process."""
        return value if self.alone else broadcast_object_list([value])[0]

    def any(self, flag: bool) -> bool:
        """Whether any process raises a flag."""
        return flag if self.alone else self.summed([flag])[0] > 0

    def release(self) -> None:
        """Let the accelerator forget the model, so that its memory can be used again."""
        self.accelerator.free_memory()


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
        model: the same in every process, not wrapped.
        accelerator: of the processes.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
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
