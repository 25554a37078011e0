"""A model in training: the parts that the loop in ``train.py`` moves on step by step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor

from legos.data.batch import Rows
from legos.data.items import ItemStore
from legos.errors import ConfigError
from legos.metrics import parse_metric
from legos.recommender import Recommender
from legos.run.early_stopping import EarlyStopping
from legos.run.optimizer import build_optimizer
from legos.run.schedule import Stream
from legos.run.weights import frozen_hashes, load_model_tensors, model_tensors

if TYPE_CHECKING:
    from legos.config.train_schema import TrainConfig


@dataclass
class Progress:
    """Where a training stands; all of it goes into a checkpoint.

    Attributes:
        step: optimizer steps done.
        epoch: epochs done, validation included.
        loss_sum: sum of the losses of the rows seen in the epoch under way.
        loss_rows: their number.
        seconds: spent in training steps, over all interruptions.
    """

    step: int = 0
    epoch: int = 0
    loss_sum: float = 0.0
    loss_rows: int = 0
    seconds: float = 0.0


class Training:
    """Model, optimizer, rows and progress of one training.

    Args:
        accelerator: device, precision and processes.
        model: to train; moved to the device and wrapped for many processes.
        store: item content, on the accelerator's device.
        rows: the training rows, on the accelerator's device.
        config: ``exp.train``.
        profiles: the users' fields, on the accelerator's device.
        early_stopping: on another metric than the one the configuration names.
        impression_name: the raw id of a training row's impression, for errors.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: Recommender,
        store: ItemStore,
        rows: Rows,
        config: TrainConfig,
        *,
        profiles: ItemStore | None = None,
        early_stopping: EarlyStopping | None = None,
        impression_name: Callable[[int], str] = str,
    ) -> None:
        self.accelerator, self.store, self.rows = accelerator, store, rows
        self.profiles = profiles
        self.config, self.impression_name = config, impression_name
        self.frozen = frozen_hashes(model)
        sharded = accelerator.distributed_type == DistributedType.FSDP
        if sharded and not accelerator.is_fsdp2:
            raise ConfigError("FSDP version 1 is not supported; set fsdp_version: 2 for accelerate")
        if sharded and config.item_page_size:
            raise ConfigError(
                f"exp.train.item_page_size {config.item_page_size} is not supported with FSDP, "
                "which gathers its shards only for a call of the whole model; set it to 0"
            )
        self._whole = copy.deepcopy(model).to(accelerator.device) if sharded else None
        optimizer = build_optimizer(
            model,
            name=config.optimizer,
            lr=config.lr,
            item_lr=config.item_lr,
            weight_decay=config.weight_decay,
        )
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.stream = Stream(
            num_rows=len(rows),
            batch_size=config.batch_size,
            acc_batch=config.acc_batch,
            epoch_batch=config.epoch_batch,
            seed=config.seed,
        )
        self.progress = Progress()
        self.early_stopping = early_stopping or EarlyStopping(
            config.metric, parse_metric(config.metric).maximize, config.patience
        )

    @property
    def bare_model(self) -> Recommender:
        """The model without the wrapper of many processes; its parameters may be shards."""
        model: Recommender = self.accelerator.unwrap_model(self.model)
        return model

    def whole_model(self) -> Recommender:
        """A model to score with: where parameters are sharded (FSDP), a copy put together.

        Scoring calls parts of the model, and only a call of the whole gathers its shards.
        """
        if self._whole is None:
            return self.bare_model
        load_model_tensors(self._whole, model_tensors(self.bare_model), origin="shards")
        return self._whole

    @property
    def alone(self) -> bool:
        """Whether there is only this process."""
        return bool(self.accelerator.num_processes == 1)

    @property
    def scales_gradients(self) -> bool:
        """Whether a gradient that overflows is skipped and scaled down (fp16)."""
        return self.accelerator.scaler is not None

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss; accelerate's own call looks for packages on every step."""
        if self.scales_gradients:
            self.accelerator.backward(loss)
        else:
            loss.backward()

    def step_optimizer(self) -> None:
        """Take a step and forget the gradient; see :meth:`backward` for why not accelerate's."""
        inner = self.optimizer.optimizer
        (self.optimizer if self.scales_gradients else inner).step()
        inner.zero_grad()

    @property
    def epoch_start(self) -> int:
        """First step of the epoch under way."""
        return self.progress.epoch * self.stream.steps_per_epoch

    @property
    def epoch_end(self) -> int:
        """First step after the epoch under way."""
        return self.epoch_start + self.stream.steps_per_epoch

    def count_step(self, *, loss_sum: float, rows: int, seconds: float) -> None:
        """Note a finished step."""
        self.progress.step += 1
        self.progress.loss_sum += loss_sum
        self.progress.loss_rows += rows
        self.progress.seconds += seconds

    def end_epoch(self) -> None:
        """Note that the epoch is validated and start the sums of the next one."""
        self.progress.epoch += 1
        self.progress.loss_sum, self.progress.loss_rows = 0.0, 0
