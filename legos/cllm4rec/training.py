"""CLLM4Rec in training: the model, an optimizer a side, the rows of every task, where it stands."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import Adam, Optimizer

from legos.cllm4rec.batches import PromptBatch
from legos.cllm4rec.losses import LossParts, combine
from legos.cllm4rec.model import Cllm4Rec, Side
from legos.cllm4rec.stages import FINETUNING, TASKS, Pass, Stage, Task, most_steps, stages_of
from legos.errors import CheckpointError, LegosError
from legos.run.early_stopping import EarlyStopping
from legos.run.schedule import Stream

SIDES: tuple[Side, ...] = ("collaborative", "content")
_NAMED = 5  # users that an error names


class TaskRows(Protocol):
    """The rows of a task by number."""

    def __len__(self) -> int: ...
    def batch(self, rows: Tensor, epoch: int) -> PromptBatch:
        """Assemble rows ``(S,)`` int64 as the given epoch orders and masks them."""


@dataclass
class Progress:
    """Where a training stands; all of it goes into a checkpoint.

    Attributes:
        stage: number of the stage under way.
        epoch: epochs done of it.
        part: passes done of its epoch.
        position: steps done of the pass.
        step: steps done in all.
        epochs: epochs done in all.
        done: by task steps done in all; the next batch follows from it.
        loss_sum, likelihood_sum, count: over the pass under way.
        seconds, tokens: by stage spent and read in steps, over all interruptions.
    """

    stage: int = 0
    epoch: int = 0
    part: int = 0
    position: int = 0
    step: int = 0
    epochs: int = 0
    done: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TASKS, 0))
    loss_sum: float = 0.0
    likelihood_sum: float = 0.0
    count: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)


@dataclass
class KeptContent:
    """The content tables that finetuning is to start from, where these are not the last ones.

    Attributes:
        score: of these tables, lower is better; None: none are kept yet.
        tensors: they, on the CPU.
    """

    score: float | None = None
    tensors: dict[str, Tensor] = field(default_factory=dict)


class StageTraining:
    """Model, optimizers, rows and progress of one training.

    Args:
        accelerator: device and precision.
        model: to train, on the device.
        rows: of every task that has passes.
        early_stopping: of finetuning.
        seed: of the order of rows.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: Cllm4Rec,
        rows: Mapping[Task, TaskRows],
        early_stopping: EarlyStopping,
        *,
        seed: int,
    ) -> None:
        settings = model.settings
        self.accelerator, self.model, self.rows = accelerator, model, rows
        self.early_stopping = early_stopping
        self.stages = stages_of(settings)
        limits = most_steps(settings)
        self.streams = {
            task: Stream(
                num_rows=len(found),
                batch_size=settings.stages.batch_size,
                acc_batch=1,
                epoch_batch=limits[task],
                seed=seed * len(TASKS) + TASKS.index(task),
                shuffle=settings.stages.shuffle,
            )
            for task, found in rows.items()
        }
        self.progress = Progress()
        self.kept = KeptContent()
        self.optimizers: dict[Side, Optimizer] = {}
        self.renew_optimizers(self.stages[0].lr)

    @property
    def stage(self) -> Stage | None:
        """The stage under way; None: all are done."""
        if self.progress.stage == len(self.stages):
            return None
        return self.stages[self.progress.stage]

    @property
    def stage_is_over(self) -> bool:
        """Whether the stage under way has had its epochs, or has stopped early."""
        stage = self.stage
        if stage is None:
            return True
        stopped = stage.name == FINETUNING and self.early_stopping.stop and not self.progress.part
        return self.progress.epoch >= stage.epochs or stopped

    @property
    def current(self) -> Pass:
        """The pass under way."""
        stage = self.stage
        if stage is None:
            raise LegosError("the training is over; there is no pass under way")
        return stage.passes[self.progress.part]

    @property
    def steps(self) -> int:
        """Steps of the pass under way."""
        stream = self.streams[self.current.task]
        return min(stream.steps_per_epoch, stream.steps_per_pass)

    def renew_optimizers(self, lr: float) -> None:
        """An Adam for each side over exactly what learns there, without moments."""
        sides = SIDES if self.model.content is not None else SIDES[:1]
        self.optimizers = {side: self._optimizer(side, lr) for side in sides}

    def take_step(self) -> dict[str, float]:
        """One optimizer step of the pass under way.

        Returns:
            What to log: loss, likelihood (a token or user), regularisation, learning_rate.

        Raises:
            LegosError: the loss is not finite.
        """
        begin, task = time.perf_counter(), self.current
        model, progress = self.model, self.progress
        step = self.streams[task.task].rows(progress.done[task.task])
        batch = self.rows[task.task].batch(step.micro_batches[0], step.pass_number)
        batch = batch.to(self.accelerator.device)
        model.train(task.dropout)
        with self.accelerator.autocast():
            parts = self._parts(task, batch)
        loss = combine(parts, model.settings.mutual)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise self._not_finite(task, batch)
        optimizer = self.optimizers[task.learns]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self._count(task, parts, value, batch, time.perf_counter() - begin)
        return {
            "loss": value,
            "likelihood": float(parts.likelihood.detach()) / max(1, parts.count),
            "regularisation": float(parts.regularisation.detach()),
            "learning_rate": optimizer.param_groups[0]["lr"],
        }

    def end_pass(self) -> tuple[float, float]:
        """Note that the pass is over; its mean loss a step and mean negative log-likelihood."""
        progress = self.progress
        loss = progress.loss_sum / max(1, progress.position)
        likelihood = progress.likelihood_sum / max(1, progress.count)
        progress.position = progress.count = 0
        progress.loss_sum = progress.likelihood_sum = 0.0
        progress.part += 1
        return loss, likelihood

    def end_epoch(self) -> None:
        """Note that all passes of the epoch are over."""
        self.progress.part = 0
        self.progress.epoch += 1
        self.progress.epochs += 1

    def next_stage(self) -> None:
        """Go on to the next stage, from the content tables and optimizers that it is to have."""
        progress = self.progress
        progress.stage, progress.epoch = progress.stage + 1, 0
        stage = self.stage
        if stage is None or not stage.fresh:
            return
        self.renew_optimizers(stage.lr)
        if self.kept.tensors and stage.epochs:
            self._put_back()
            self.kept = KeptContent()

    def keep_content(self, score: float) -> None:
        """Keep a copy of the content tables if no earlier ones had so low a score."""
        if self.kept.score is not None and score >= self.kept.score:
            return
        tensors = {
            name: tensor.detach().cpu().clone()
            for name, tensor in self.model.named_parameters()
            if name.startswith("content.")
        }
        self.kept = KeptContent(score, tensors)

    def _parts(self, task: Pass, batch: PromptBatch) -> LossParts:
        if task.task == "content":
            return self.model.content_step(batch, mutual=task.mutual)
        if task.task == "collaborative":
            return self.model.collaborative_step(batch)
        return self.model.recommendation_step(batch)

    def _count(
        self, task: Pass, parts: LossParts, loss: float, batch: PromptBatch, seconds: float
    ) -> None:
        progress, stage = self.progress, self.stage
        name = "" if stage is None else stage.name
        progress.position += 1
        progress.step += 1
        progress.done[task.task] += 1
        progress.loss_sum += loss
        progress.likelihood_sum += float(parts.likelihood.detach())
        progress.count += parts.count
        progress.seconds[name] = progress.seconds.get(name, 0.0) + seconds
        progress.tokens[name] = progress.tokens.get(name, 0) + batch.tokens.values.numel()

    def _optimizer(self, side: Side, lr: float) -> Adam:
        learning = self.model.learning(side)
        tables = [p for name, p in learning.items() if not name.startswith("backbone.")]
        backbone = [p for name, p in learning.items() if name.startswith("backbone.")]
        groups = [{"params": tables, "lr": lr}]
        if backbone:
            own = self.model.settings.backbone.lr
            groups.append({"params": backbone, "lr": lr if own is None else own})
        return Adam(groups, fused=True)

    def _put_back(self) -> None:
        parameters = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, tensor in self.kept.tensors.items():
                if name not in parameters:
                    raise CheckpointError(f"kept content tables: {name!r} is not in the model")
                parameters[name].copy_(tensor)

    def _not_finite(self, task: Pass, batch: PromptBatch) -> LegosError:
        users = [str(user) for user in batch.users[:_NAMED].tolist()]
        stage, step = self.stage, self.progress.step + 1
        name = "" if stage is None else stage.name
        key = "finetuning_lr" if name == FINETUNING else "pretraining_lr"
        return LegosError(
            f"loss is not finite in {name}, epoch {self.progress.epoch + 1}, {task.task} pass, "
            f"step {step}: {len(batch)} rows, the first of users {', '.join(users)} (-1: a text "
            f"about an item); lower model.stages.{key} or model.mutual.weight, or use "
            "exp.precision fp32"
        )
