"""Training rows by step number, in an order determined by the seed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from legos.data.sampling import row_order


@dataclass(frozen=True)
class StepRows:
    """The rows of one optimizer step, over all processes.

    Attributes:
        pass_number: how many whole passes went before.
        micro_batches: each ``(<= world_size * batch_size,)`` int64, at least one.
    """

    pass_number: int
    micro_batches: list[Tensor]

    @property
    def total(self) -> int:
        """Rows of the step."""
        return sum(rows.numel() for rows in self.micro_batches)


class Stream:
    """Training rows by step number.

    Args:
        num_rows: rows of one pass.
        batch_size: rows of a micro-batch over all processes.
        acc_batch: micro-batches a step.
        epoch_batch: 0 = an epoch is one pass; n > 0 = n batches; n < 0 = 1/|n| of a pass.
        seed: of the permutations.
        shuffle: off: every pass in the order of the rows.
    """

    def __init__(
        self,
        *,
        num_rows: int,
        batch_size: int,
        acc_batch: int,
        epoch_batch: int,
        seed: int,
        shuffle: bool = True,
    ) -> None:
        self._num_rows = num_rows
        self._batch_size = batch_size
        self._seed, self._shuffle = seed, shuffle
        self._order: tuple[int, Tensor] | None = None
        self.rows_per_step = batch_size * acc_batch
        self.steps_per_pass = _ceil(num_rows, self.rows_per_step)
        if epoch_batch > 0:
            self.steps_per_epoch = _ceil(epoch_batch, acc_batch)
        else:
            self.steps_per_epoch = _ceil(self.steps_per_pass, max(1, -epoch_batch))

    def rows(self, step: int) -> StepRows:
        """The rows of a step (counted from 0); the last step of a pass may be short."""
        pass_number, position = divmod(step, self.steps_per_pass)
        if self._order is None or self._order[0] != pass_number:
            order = torch.arange(self._num_rows)
            if self._shuffle:
                order = row_order(self._num_rows, seed=self._seed, pass_number=pass_number)
            self._order = (pass_number, order)
        first = position * self.rows_per_step
        rows = self._order[1][first : first + self.rows_per_step]
        return StepRows(pass_number, list(torch.split(rows, self._batch_size)))


def _ceil(number: int, divisor: int) -> int:
    return -(-number // divisor)
