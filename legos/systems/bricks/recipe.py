"""Training of brick models: a step's loss is the mean over its rows, however they are split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from legos.blocks.embedding import IDVectors
from legos.data.batch import Batch, Rows
from legos.data.items import ItemStore
from legos.errors import ConfigError, Diverged
from legos.recommender import Recommender
from legos.systems.bricks.losses import CachedItems, LossSettings, batch_loss
from legos.training.distributed import Replicas, is_shared_out, rank_part
from legos.training.early_stopping import EarlyStopping
from legos.training.epochs import EpochProgress, EpochRecipe
from legos.training.optimizer import Group, build_optimizer
from legos.training.recipe import Loss, Step
from legos.training.stream import Stream
from legos.training.weights import frozen_hashes

if TYPE_CHECKING:
    from legos.config.train_schema import TrainConfig

_NAMED = 5  # impressions named by an error


class Piece(NamedTuple):
    """The part of a micro-batch that this process takes.

    Attributes:
        batch: of training rows.
        counted: rows that count, the first ones.
    """

    batch: Batch
    counted: int


class BricksRecipe(EpochRecipe):
    """Training of clicks against negatives, or against the catalogue.

    Args:
        accelerator: device, precision and processes.
        model: to train; moved to the device and wrapped for many processes.
        store: item content, on the accelerator's device.
        rows: the training rows, on the accelerator's device.
        config: ``exp.train``.
        profiles: the users' fields, on the accelerator's device.
        early_stopping: on another metric than the one the configuration names.
        impression_name: the raw id of a training row's impression, for errors.

    Raises:
        ConfigError: items are to be encoded in pages, and parameters are sharded; the optimizer is
            to read sparse gradients, and there are many processes or fp16.
    """

    system = "bricks"
    stream: Stream

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
        if is_shared_out(model) and config.item_page_size:
            raise ConfigError(
                f"exp.train.item_page_size {config.item_page_size} cannot be combined with "
                "exp.distributed fsdp: processes would call layers for different numbers of "
                "pages; set it to 0"
            )
        if config.optimizer == "lazy_adam":
            _read_rows_alone(accelerator, model)
        self.accelerator, self.store, self.rows = accelerator, store, rows
        self.profiles = profiles
        self.train, self.impression_name = config, impression_name
        self.frozen = frozen_hashes(model)
        # pages are encoded by a part of the model, whose wrapper does not average gradients
        self.replicas = Replicas(
            accelerator,
            model,
            {"": brick_optimizer(model, config)},
            by_hand=config.item_page_size > 0,
        )
        self.stream = Stream(
            num_rows=rows.units,
            batch_size=rows.units_of(config.batch_size),
            acc_batch=config.acc_batch,
            epoch_batch=config.epoch_batch,
            seed=config.seed,
        )
        self.rows_per_step = self.stream.rows_per_step
        self.progress = EpochProgress()
        self.early_stopping = early_stopping or EarlyStopping.of(config)
        self._settings = LossSettings(config.margin, config.negative_weight, config.calibration)

    @property
    def model(self) -> nn.Module:
        """The model, wrapped if there are several processes."""
        return self.replicas.module

    @property
    def bare_model(self) -> Recommender:
        """The model without the wrapper; its parameters may be shards."""
        model: Recommender = self.replicas.bare
        return model

    def step(self, number: int) -> Step:
        """Return the parts of the step's micro-batches for this process."""
        step = self.stream.rows(number)
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        parts = [rank_part(micro, rank, processes) for micro in step.micro_batches]
        return Step(
            pieces=[
                Piece(
                    self.rows.batch(units, pass_number=step.pass_number, step=number),
                    self.rows.count(units[:counted], pass_number=step.pass_number),
                )
                for units, counted in parts
            ],
            share=1 / self.rows.count(torch.cat(step.micro_batches), pass_number=step.pass_number),
        )

    def loss(self, piece: Piece) -> Loss:
        """Sum the losses of the rows of this process."""
        config, model = self.train, self.replicas.module
        batch = piece.batch
        cached: CachedItems | None = None
        if 0 < config.item_page_size < batch.items.numel():
            cached = CachedItems(
                self.bare_model,
                self.store,
                batch.items,
                page_size=config.item_page_size,
                autocast=self.accelerator.autocast,
            )
        vectors = None if cached is None else cached.vectors
        with self.accelerator.autocast():
            whole = batch.targets is not None  # every item competes: nothing is to be selected
            items = self.store.whole() if whole else self.store.batch(batch.items)
            labelled = [self.store.batch(ids) for ids in batch.labelled]
            scored = model(batch, items, self.profiles, vectors, labelled)
            total, losses = batch_loss(config.loss, scored, batch, piece.counted, self._settings)
        return Loss(
            total,
            counts=[piece.counted],
            rows=losses,
            backward=None if cached is None else cached.backward,
        )

    def not_finite(self, step: Step, losses: Sequence[Loss], norm: float) -> Diverged:
        """Return an error that names the impressions of the step, those with a bad loss first."""
        rows = torch.cat([piece.batch.rows[: piece.counted] for piece in step.pieces]).cpu()
        bad = ~torch.cat([loss.rows for loss in losses if loss.rows is not None]).cpu().isfinite()
        culprits = rows[bad] if bad.any() else rows
        names = [self.impression_name(int(row)) for row in culprits[:_NAMED]]
        more = f" and {len(culprits) - _NAMED} more" if len(culprits) > _NAMED else ""
        progress = self.progress
        return Diverged(
            f"{'loss' if bad.any() else 'gradient'} is not finite in epoch {progress.epoch + 1}, "
            f"step {progress.step + 1}: training rows of impressions {', '.join(names)}{more}; "
            "lower exp.train.lr, set exp.train.clip, or use exp.precision fp32"
        )


def brick_optimizer(model: nn.Module, train: TrainConfig) -> Optimizer:
    """Build the optimizer; modules with ``is_language_model`` true learn at ``item_lr``."""
    of_language_model = {
        parameter
        for module in model.modules()
        if getattr(module, "is_language_model", False)
        for parameter in module.parameters()
    }

    def group(name: str, parameter: nn.Parameter) -> Group:
        return "item" if parameter in of_language_model else ""

    return build_optimizer(model.named_parameters(), train, group)


def _read_rows_alone(accelerator: Accelerator, model: nn.Module) -> None:
    """Make gradients of id tables sparse: only the rows that a step reads."""
    if accelerator.num_processes > 1 or accelerator.scaler is not None:
        raise ConfigError(
            "exp.train.optimizer lazy_adam is for one process in fp32 or bf16: sparse gradients "
            "are not averaged over processes, nor scaled; set it to adam"
        )
    for module in model.modules():
        if isinstance(module, IDVectors):
            module.sparse = True
