"""Training of TIGER: the mean loss of the next items, each a tuple of codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor

from legos.data.batch import training_clicks
from legos.data.interactions import Interactions
from legos.data.ragged import Ragged
from legos.data.windows import Windows
from legos.errors import Diverged
from legos.systems.tiger.model import Reading, Tiger
from legos.training.distributed import Replicas, rank_part
from legos.training.early_stopping import EarlyStopping
from legos.training.epochs import EpochProgress, EpochRecipe
from legos.training.optimizer import build_optimizer
from legos.training.recipe import Loss, Step
from legos.training.stream import Stream

if TYPE_CHECKING:
    from legos.config.train_schema import TrainConfig


class Piece(NamedTuple):
    """Next items of sequences; the first ``counted`` count."""

    reading: Reading
    items: Tensor
    counted: int


class TrainingRows:
    """All clicks of a split as next items of their histories; a unit is read at once.

    Args:
        interactions: the training split.
        users: ``(users + 1,)`` int64 token of each.
        whole: one unit is a piece of a user's sequence with all next items in it, else an item.

    Raises:
        DataError: there is no click.
    """

    def __init__(self, interactions: Interactions, users: Tensor, *, whole: bool) -> None:
        clicks = training_clicks(interactions)
        impressions, self.items = clicks.rows, clicks.values  # (R,)
        self._users = users.to(self.items.device)[interactions.users[impressions]]
        if whole:
            windows = Windows.of(interactions, impressions)
            self._read, self._rows, self._lengths = windows.items, windows.rows, windows.lengths
        else:
            every = torch.arange(len(self.items) + 1, device=self.items.device)
            self._rows = Ragged(every[:-1], every)
            self._histories = interactions.histories
            self._read = interactions.histories.select(interactions.history_rows[impressions])
            self._lengths = self._read.lengths

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self._rows)

    def units_of(self, rows: int) -> int:
        """Number of units with about that many next items."""
        return max(1, round(rows * self.units / max(1, len(self.items))))

    def count(self, units: Tensor) -> int:
        """Number of next items of some units."""
        return int(self._rows.lengths[units].sum())

    def piece(self, units: Tensor, counted: int) -> Piece:
        """The next items of some units, of which the first ``counted`` count."""
        device = self.items.device
        units = units.to(device)
        rows = self._rows.select(units)
        first = self._rows.values[self._rows.offsets[units]]
        reading = Reading(
            self._read.select(units), self._users[first], rows.rows, self._lengths[rows.values]
        )
        return Piece(reading, self.items[rows.values], int(rows.lengths[:counted].sum()))


class TigerRecipe(EpochRecipe):
    """Training on next items by their codes.

    Args:
        model: to train.
        rows: the training rows, on the accelerator's device.
    """

    system = "tiger"
    stream: Stream

    def __init__(
        self, accelerator: Accelerator, model: Tiger, rows: TrainingRows, train: TrainConfig
    ) -> None:
        self.accelerator, self.rows, self.train = accelerator, rows, train
        self.frozen = {}
        optimizer = build_optimizer(model.named_parameters(), train, lambda *_: "")
        self.replicas = Replicas(accelerator, model, {"": optimizer})
        self.stream = Stream(
            num_rows=rows.units,
            batch_size=rows.units_of(train.batch_size),
            acc_batch=train.acc_batch,
            epoch_batch=0,
            seed=train.seed,
        )
        self.rows_per_step = self.stream.rows_per_step
        self.progress, self.early_stopping = EpochProgress(), EarlyStopping.of(train)

    def step(self, number: int) -> Step:
        """Return the parts of the step's micro-batches for this process."""
        step = self.stream.rows(number)
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        parts = [rank_part(micro, rank, processes) for micro in step.micro_batches]
        return Step(
            pieces=[self.rows.piece(units, counted) for units, counted in parts],
            share=1 / self.rows.count(torch.cat(step.micro_batches)),
        )

    def loss(self, piece: Piece) -> Loss:
        """Sum the losses of the next items of this process."""
        with self.accelerator.autocast():
            losses = self.replicas.module(piece.reading, piece.items)[: piece.counted]
        return Loss(losses.sum(), counts=[piece.counted])

    def not_finite(self, step: Step, losses: Sequence[Loss], norm: float) -> Diverged:
        """Return an error that names the step; a sum over many items names no item."""
        progress = self.progress
        return Diverged(
            f"loss or gradient is not finite in epoch {progress.epoch + 1}, step "
            f"{progress.step + 1}; lower exp.train.lr, set exp.train.clip, or use exp.precision "
            "fp32"
        )
