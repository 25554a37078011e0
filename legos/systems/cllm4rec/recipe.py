"""Training of CLLM4Rec: passes of tasks, one optimizer per side, kept tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from legos.errors import CheckpointError, Diverged, LegosError
from legos.systems.cllm4rec.batches import PromptBatch
from legos.systems.cllm4rec.coupling import gradient_ratios, mean_cosines, measured_steps
from legos.systems.cllm4rec.kept import KeptTables
from legos.systems.cllm4rec.losses import LossParts, combine
from legos.systems.cllm4rec.model import Cllm4Rec, Side
from legos.systems.cllm4rec.progress import Progress, Resumable
from legos.systems.cllm4rec.stages import (
    FINETUNING,
    PRETRAINING,
    TASKS,
    Pass,
    Pretrained,
    Stage,
    Task,
    most_steps,
    stages_of,
)
from legos.training.distributed import Replicas, is_shared_out, rank_part
from legos.training.early_stopping import EarlyStopping
from legos.training.optimizer import Group, build_optimizer
from legos.training.recipe import PRETRAINED, Loss, Recipe, Segment, Step
from legos.training.stream import StepRows, Stream
from legos.training.weights import frozen_hashes

if TYPE_CHECKING:
    from legos.config.train_schema import TrainConfig

SIDES: tuple[Side, ...] = ("collaborative", "content")
_SCORES: dict[Side, str] = {"content": "kept_score", "collaborative": "kept_collaborative_score"}
_NAMED = 5  # users that an error names


class TaskRows(Protocol):
    """The rows of a task by number."""

    def __len__(self) -> int: ...
    def rows(self, rows: Tensor, *, epoch: int) -> PromptBatch:
        """Assemble rows ``(S,)`` int64 as the given epoch orders and masks them."""


class Piece(NamedTuple):
    """The part of a micro-batch that this process takes.

    Attributes:
        batch: its sequences.
        divisor: what the mean of the step's likelihood divides by; None: that of the batch.
        counts: whether it counts at all; a process for which nothing is left computes one sequence.
    """

    batch: PromptBatch
    divisor: int | None = None
    counts: bool = True


class Cllm4RecRecipe(Recipe):
    """Warm-up, pretraining and finetuning.

    Args:
        rows: of every task that has passes.
        train: ``exp.train``; early stopping is that of finetuning.
        shared: where runs that share this pretraining leave and find it; None: they do not.
    """

    system = "cllm4rec"
    record = Resumable
    progress: Progress

    def __init__(
        self,
        accelerator: Accelerator,
        model: Cllm4Rec,
        rows: Mapping[Task, TaskRows],
        train: TrainConfig,
        *,
        shared: Pretrained | None = None,
    ) -> None:
        settings = model.settings
        self.accelerator, self.model, self.rows, self.train = accelerator, model, rows, train
        self.early_stopping, self._shared = EarlyStopping.of(train), shared
        self.stages = stages_of(settings, train)
        limits = most_steps(train.stages)
        self.streams = {
            task: Stream(
                num_rows=len(found),
                batch_size=train.batch_size,
                acc_batch=train.acc_batch,
                epoch_batch=limits[task],
                seed=train.seed * len(TASKS) + TASKS.index(task),
                shuffle=settings.shuffle,
            )
            for task, found in rows.items()
        }
        self.rows_per_step = {task: stream.rows_per_step for task, stream in self.streams.items()}
        self.frozen = frozen_hashes(model.backbone)
        self.progress = Progress()
        sides = SIDES if model.content is not None else SIDES[:1]
        self.kept = {side: KeptTables(model, side) for side in sides}
        optimizers: dict[str, Optimizer] = {side: self._optimizer(side) for side in sides}
        self.replicas = Replicas(accelerator, model, optimizers)

    @property
    def stage(self) -> Stage | None:
        """The current stage; None: all are done."""
        if self.progress.stage == len(self.stages):
            return None
        return self.stages[self.progress.stage]

    @property
    def stage_is_over(self) -> bool:
        """Whether the current stage has finished its epochs or stopped early."""
        stage = self.stage
        if stage is None:
            return True
        stopped = stage.name == FINETUNING and self.early_stopping.stop and not self.progress.part
        return self.progress.epoch >= stage.epochs or stopped

    @property
    def current(self) -> Pass:
        """The current pass."""
        stage = self.stage
        if stage is None:
            raise LegosError("the training is over; there is no pass under way")
        return stage.passes[self.progress.part]

    def span(self) -> tuple[int, int]:
        """Steps of the stages up to finetuning, or of finetuning, whose optimizers are new."""
        before = first = 0
        for stage in self.stages[: self.progress.stage + 1]:
            first = before if stage.fresh else first
            before += self._length(stage)
        last = self.progress.stage + 1
        for stage in self.stages[last:]:
            if stage.fresh:
                break
            before += self._length(stage)
        return self.progress.step - first, before - first

    def _length(self, stage: Stage) -> int:
        return stage.epochs * sum(map(self._steps_of, stage.passes)) if stage.epochs else 0

    def _steps_of(self, task: Pass) -> int:
        stream = self.streams[task.task]
        return min(stream.steps_per_epoch, stream.steps_per_pass)

    def segment(self) -> Segment | None:
        """The next segment: a pass, the end of a stage, or a measurement without finetuning."""
        progress, stage = self.progress, self.stage
        if stage is None:
            if self.early_stopping.best_epoch:
                return None
            labels = {"epoch": max(1, progress.epochs), "stage": ""}
            return Segment("not finetuned", labels, measure="choose")
        labels = {"epoch": progress.epochs + 1, "stage": stage.name}
        if self.stage_is_over:
            keep = PRETRAINED if stage.name == PRETRAINING else ""
            return Segment(f"end of {stage.name}", labels, keep=keep)
        task = self.current
        return Segment(
            title=f"{stage.name} {progress.epoch + 1} {task.task}",
            labels={**labels, "task": task.task},
            steps=self._steps_of(task),
            done=progress.position,
            first=progress.done[task.task] - progress.position,
            dropout=task.dropout,
            measure=self._measure(stage, task),
            save=False,
        )

    def step(self, number: int) -> Step:
        """Make this process's part of a batch of the task.

        Every process assembles the whole: what a mean divides by and which users and items are
        regularised follow from all of it. They are regularised once, in the first piece.
        """
        task = self.current
        step = self.streams[task.task].rows(number)
        whole = self._assembled(step, task)
        if self.replicas.alone and len(step.micro_batches) == 1:
            return Step([Piece(whole)], optimizer=task.learns)
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        divisor = self.model.count(whole, task.task)
        pieces: list[Piece] = []
        for micro in _numbered(step):
            rows, counted = rank_part(micro, rank, processes)
            batch = whole.part(rows, counts=not pieces and rank == 0)
            pieces.append(Piece(batch, divisor, counted > 0))
        return Step(pieces, optimizer=task.learns)

    def _assembled(self, step: StepRows, task: Pass) -> PromptBatch:
        rows = torch.cat(step.micro_batches)
        return self.rows[task.task].rows(rows, epoch=step.pass_number)

    def loss(self, piece: Piece) -> Loss:
        """Likelihood and mutual regularisation."""
        task = self.current
        batch = piece.batch
        with self.accelerator.autocast():
            parts: LossParts = self.replicas.module(batch, task.task, mutual=task.mutual)
        loss = combine(parts, self.model.settings.mutual, count=piece.divisor)
        if not piece.counts:
            return Loss(loss * 0, counts=(0, 0, 0, 0))
        tokens = batch.tokens.values.numel()
        numbers = (parts.likelihood.detach(), parts.regularisation.detach(), parts.divisor, tokens)
        return Loss(loss, counts=numbers)

    def not_finite(self, step: Step, losses: Sequence[Loss], norm: float) -> Diverged:
        """Return an error that names the users of the batch."""
        batch: PromptBatch = step.pieces[0].batch
        users = [str(user) for user in batch.users[:_NAMED].tolist()]
        stage, number = self.stage, self.progress.step + 1
        name = "" if stage is None else stage.name
        key = "stages.finetuning_lr" if name == FINETUNING else "lr"
        return Diverged(
            f"loss is not finite in {name}, epoch {self.progress.epoch + 1}, {self.current.task} "
            f"pass, step {number}: {len(batch)} rows, the first of users {', '.join(users)} (-1: a "
            f"text about an item); lower exp.train.{key} or model.mutual.weight, or use "
            "exp.precision fp32"
        )

    def count(self, loss: float, counts: Sequence[float], seconds: float) -> dict[str, float]:
        """Loss, likelihood (a token or user), regularisation and learning rate."""
        progress, task, stage = self.progress, self.current, self.stage
        likelihood, regularisation, count, tokens = counts
        name = "" if stage is None else stage.name
        progress.position += 1
        progress.step += 1
        progress.done[task.task] += 1
        progress.loss_sum += loss
        progress.likelihood_sum += likelihood
        progress.count += int(count)
        progress.seconds[name] = progress.seconds.get(name, 0.0) + seconds
        progress.tokens[name] = progress.tokens.get(name, 0) + int(tokens)
        return {
            "loss": loss,
            "likelihood": likelihood / max(1, count),
            "regularisation": regularisation,
            "learning_rate": self.replicas.optimizers[task.learns].param_groups[0]["lr"],
        }

    def means(self) -> dict[str, float]:
        """Loss a step and negative log-likelihood a token or user of the pass."""
        progress = self.progress
        return {
            "loss": progress.loss_sum / max(1, progress.position),
            "likelihood": progress.likelihood_sum / max(1, progress.count),
        }

    def observed(self, segment: Segment) -> dict[str, float]:
        """How strongly the two sets of tables are coupled, after a pass in which one is pulled.

        The first steps of the pass are computed again, without dropout and by every process alike.
        Layers that processes share out are left alone: they would be gathered once more.
        """
        if "task" not in segment.labels or not self.current.mutual:
            return {}
        task, found = self.current, mean_cosines(self.model)
        if is_shared_out(self.model):
            return found
        first, device = segment.first, self.accelerator.device

        def parts(number: int) -> list[PromptBatch]:
            step = self.streams[task.task].rows(number)
            whole = self._assembled(step, task)
            return [whole.part(rows, counts=not rows[0]).to(device) for rows in _numbered(step)]

        steps = map(parts, range(first, first + measured_steps(segment.steps)))
        ratios = gradient_ratios(self.model, task.task, steps, self.accelerator.autocast())
        return {**ratios, **found}

    def after(self, segment: Segment, score: float) -> None:
        """Advance to the next pass, epoch or stage."""
        progress, stage = self.progress, self.stage
        if stage is None:
            return
        if "task" not in segment.labels:
            if segment.keep and self._shared is not None and self.accelerator.is_main_process:
                self._shared.leave()
            self.next_stage()
            return
        self._keep_tables(stage, self.means()["loss"], score)
        progress.position = progress.count = 0
        progress.loss_sum = progress.likelihood_sum = 0.0
        progress.part += 1
        if progress.part == len(stage.passes):
            progress.part = 0
            progress.epoch += 1
            progress.epochs += 1

    def next_stage(self) -> None:
        """Advance to the next stage, with its tables and new optimizers."""
        progress = self.progress
        progress.stage, progress.epoch = progress.stage + 1, 0
        stage = self.stage
        if stage is None or not stage.fresh:
            return
        self._begin_optimizers(stage)
        for kept in self.kept.values():
            kept.put_back()

    def state(self) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
        """The kept tables."""
        tensors = {
            name: each for kept in self.kept.values() for name, each in kept.tensors().items()
        }
        scores = {_SCORES[side]: kept.score for side, kept in self.kept.items()}
        return {**dict.fromkeys(_SCORES.values()), **scores}, tensors

    def load_state(
        self, state: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path
    ) -> None:
        """Load kept tables; check that the stage and pass exist."""
        progress, stages = self.progress, self.stages
        inside = progress.stage < len(stages)
        inside = inside and progress.part <= len(stages[progress.stage].passes)
        ended = (progress.stage, progress.part) == (len(stages), 0)
        if not (inside or ended) or progress.done.keys() != Progress().done.keys():
            raise CheckpointError(
                f"{folder}: stands in stage {progress.stage}, pass {progress.part} (steps of "
                f"{', '.join(progress.done)}), which this training does not have"
            )
        for side, kept in self.kept.items():
            kept.resume(state.get(_SCORES[side]), tensors)
        self._begin_optimizers(self.stage or stages[-1])

    def origin(self) -> Path | None:
        """The pretraining of another run of the same settings."""
        return None if self._shared is None else self._shared.find()

    def begin(self) -> None:
        """Start after pretraining."""
        self.next_stage()

    def _measure(self, stage: Stage, task: Pass) -> Any:
        if stage.fresh and task == stage.passes[0]:
            return "choose"
        chosen = self.model.settings.content.checkpoint == "valid"
        watched = chosen and stage.name == PRETRAINING and task.task == "content"
        return "watch" if watched else "no"

    def _keep_tables(self, stage: Stage, loss: float, score: float) -> None:
        """Keep the tables that finetuning is to start from."""
        side, settings = self.current.learns, self.model.settings
        chosen = getattr(settings, side).checkpoint
        if stage.name == FINETUNING:
            return
        if chosen == "training_loss":  # of the language model alone in warm-up: as published
            self.kept[side].offer(loss)
        elif chosen == "valid" and stage.name == PRETRAINING:
            self.kept[side].offer(-score if self.early_stopping.maximize else score)

    def _optimizer(self, side: Side) -> Optimizer:
        """Build Adam over exactly the weights that a side trains."""

        def group(name: str, parameter: nn.Parameter) -> Group:
            return "adapters" if name.startswith("backbone.") else "soft_tokens"

        return build_optimizer(self.model.learning(side).items(), self.train, group)

    def _begin_optimizers(self, stage: Stage) -> None:
        """The learning rate of a stage, without moments."""
        for optimizer in self.replicas.optimizers.values():
            optimizer.state.clear()
            for group in optimizer.param_groups:
                if group["follows"]:
                    group["peak_lr"] = group["lr"] = stage.lr


def _numbered(step: StepRows) -> Sequence[Tensor]:
    """The rows of each micro-batch by their numbers in the step."""
    numbers: Sequence[Tensor] = torch.arange(step.total).split(list(map(len, step.micro_batches)))
    return numbers
