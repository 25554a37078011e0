"""RecSysLLM in training: a step at a time, and all that it is to and from a checkpoint.

``last`` has what is trained, the moments of AdamW, where the training stands and the states of all
random numbers, so that a run that was killed and resumed ends with the same bits; ``best`` has what
is trained alone. What the language model was before is never stored, only its hashes.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import AdamW

from legos.data.ragged import Ragged
from legos.data.rows import token_batches
from legos.errors import CheckpointError, LegosError
from legos.recsysllm.backbone import DecoderBackbone, IntraTable
from legos.recsysllm.layout import lay_out
from legos.recsysllm.lora import Backbone
from legos.recsysllm.loss import infill_loss
from legos.recsysllm.model_settings import RecsysllmConfig
from legos.recsysllm.positions import IGNORE, Examples
from legos.recsysllm.stream import TrainingStream
from legos.run.checkpoint import (
    Checkpoint,
    has_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from legos.run.early_stopping import EarlyStopping
from legos.run.random_state import random_tensors, random_values, restore_random
from legos.run.records import RandomRecord, ResumableRecord, record_of
from legos.run.save_times import SaveTimes
from legos.run.schedule import learning_rate_factor
from legos.run.tracking import Tracker
from legos.run.weights import (
    below,
    check_frozen,
    frozen_hashes,
    load_model_tensors,
    load_optimizer_tensors,
    model_tensors,
    optimizer_tensors,
)

LAST, BEST = "last", "best"
_RANDOM, _MOMENTS = "random/", "moments/"
_MARK = "recsysllm"
_ENOUGH = 1024  # tokens that are worth a forward pass


@dataclass
class Progress:
    """Where a training stands; all of it goes into a checkpoint.

    Attributes:
        step: steps done in all.
        epochs: epochs done and measured.
        loss_sum: of the steps of the epoch under way.
        seconds, tokens, targets: spent, read and predicted in steps, over all interruptions.
    """

    step: int = 0
    epochs: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    tokens: int = 0
    targets: int = 0


class _Resumable(ResumableRecord):
    """What training needs of ``state.json``."""

    progress: record_of(Progress)  # type: ignore[valid-type]
    random: RandomRecord


class InfillTraining:
    """Backbone, optimizer, examples and progress of one training.

    Args:
        accelerator: device and precision.
        backbone: on the device.
        stream: examples of every step.
        settings: how.
        early_stopping: of the watched metric.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        backbone: Backbone,
        stream: TrainingStream,
        settings: RecsysllmConfig,
        early_stopping: EarlyStopping,
    ) -> None:
        self.accelerator, self.backbone, self.stream = accelerator, backbone, stream
        self.settings, self.early_stopping = settings, early_stopping
        self.progress = Progress()
        self.optimizer = _optimizer(backbone, settings)

    @property
    def total(self) -> int:
        """Steps of the whole training, if it does not stop early."""
        return self.stream.steps_per_epoch * self.settings.training.epochs

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or early stopping ends them."""
        done = self.progress.epochs >= self.settings.training.epochs
        return done or self.early_stopping.stop

    @property
    def epoch_is_over(self) -> bool:
        """Whether all steps of the epoch under way are done."""
        return self.progress.step >= (self.progress.epochs + 1) * self.stream.steps_per_epoch

    def take_step(self) -> dict[str, float]:
        """One optimizer step.

        Returns:
            What to log: loss, gradient_norm, learning_rate.

        Raises:
            LegosError: the loss or the gradient is not finite.
        """
        begin, own, progress = time.perf_counter(), self.settings.training, self.progress
        examples = self.stream.examples(progress.step)
        lr = own.lr * learning_rate_factor(
            progress.step, total=self.total, warmup=own.warmup, schedule=own.schedule
        )
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.backbone.train()
        loss = self._backward(examples)
        trained = [p for p in self.backbone.parameters() if p.requires_grad]
        norm = float(torch.nn.utils.clip_grad_norm_(trained, own.clip_norm))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise LegosError(
                f"loss {loss}, gradient {norm} in step {progress.step + 1}: not finite; lower "
                "model.training.lr, or use exp.precision fp32"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        progress.loss_sum += loss
        progress.tokens += examples.tokens.numel()
        progress.targets += int((examples.targets != IGNORE).sum())
        progress.seconds += time.perf_counter() - begin
        return {"loss": loss, "gradient_norm": norm, "learning_rate": lr}

    def end_epoch(self) -> float:
        """Note that an epoch is over; its mean loss a step."""
        loss = self.progress.loss_sum / self.stream.steps_per_epoch
        self.progress.loss_sum, self.progress.epochs = 0.0, self.progress.epochs + 1
        return loss

    def _backward(self, examples: Examples) -> float:
        """Gradients of the step's loss, read in parts; the loss."""
        own, device = self.settings.training, self.accelerator.device
        is_target = examples.targets != IGNORE
        rows = Ragged(examples.tokens, examples.offsets).rows
        counts = torch.bincount(rows[is_target], minlength=len(examples))  # (N,)
        weights = counts if own.reduction == "tokens" else (counts > 0).long()
        budget = max(own.batch_tokens, int(examples.lengths.max()))
        losses: list[Tensor] = []
        for chosen in length_batches(examples.lengths, budget):
            part = examples.select(chosen).to(device)
            layout = lay_out(
                part,
                pad=self.backbone.special.pad,
                row_tokens=int(part.lengths.max()),
                bidirectional=self.settings.backbone.bidirectional,
            )
            with self.accelerator.autocast():
                loss = infill_loss(self.backbone, part, layout, reduction=own.reduction)
            loss = loss * (int(weights[chosen].sum()) / max(1, int(weights.sum())))
            loss.backward()
            losses.append(loss.detach())
        return float(torch.stack(losses).sum())


def length_batches(lengths: Tensor, budget: int) -> list[Tensor]:
    """Examples that are read together: few enough tokens, and of like lengths.

    Attention costs a row's tokens times its width, and short examples pack tightly into narrow
    rows; groups of few tokens are not worth a forward pass of their own.

    Args:
        lengths: ``(N,)`` int64 tokens of each example.
        budget: the most tokens of a group.

    Returns:
        ``(n,)`` int64 numbers of each group.
    """
    found: list[Tensor] = []
    for group in token_batches(lengths, budget):  # the longest first
        begin = used = 0
        for at, number in enumerate(group.tolist()):
            length = int(lengths[number])
            if used >= _ENOUGH and 2 * length <= int(lengths[group[begin]]):
                found.append(group[begin:at])
                begin, used = at, 0
            used += length
        found.append(group[begin:])
    return found


class TrainingKeeper:
    """The checkpoints of one run.

    Args:
        training: what is saved and restored.
        folder: of the checkpoints.
        run_id: written into them.
        tracker: whose lines are cut back to the checkpoint.
        minutes: save at least so often.
        steps: save every so many steps, too; 0: by time alone.
    """

    def __init__(
        self,
        training: InfillTraining,
        folder: Path,
        run_id: str,
        tracker: Tracker,
        *,
        minutes: float,
        steps: int,
    ) -> None:
        self._training, self._folder, self._run_id = training, folder, run_id
        self._tracker, self._times = tracker, SaveTimes(minutes, steps)
        self._frozen = frozen_hashes(training.backbone)

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return self._times.due(self._training.progress.step)

    def save(self, name: str) -> None:
        """Write a checkpoint of that name; moments and random numbers only into ``last``."""
        training = self._training
        stored: dict[str, Tensor] = {}
        if name == LAST:
            moments = optimizer_tensors(training.backbone, training.optimizer)
            stored |= {_MOMENTS + key: value for key, value in moments.items()}
            stored |= {_RANDOM + key: value for key, value in random_tensors().items()}
        state: dict[str, Any] = {
            "system": _MARK,
            "run": self._run_id,
            "progress": asdict(training.progress),
            "early_stopping": training.early_stopping.state(),
            "metrics_position": self._tracker.position,
            "frozen": self._frozen,
            "random": random_values(),
        }
        checkpoint = Checkpoint(model_tensors(training.backbone), state, stored)
        write_checkpoint(self._folder / name, checkpoint)
        self._times.saved()

    def resume(self) -> None:
        """Go on from ``last``, where there is one; lines recorded after it are forgotten.

        Raises:
            CheckpointError: damaged, or of another model.
        """
        training, folder = self._training, self._folder / LAST
        if not has_checkpoint(folder):
            self._tracker.rewind(0, 0)
            return
        found = read_checkpoint(folder, _Resumable)
        take_trained(training.backbone, found, folder, frozen=self._frozen)
        training.progress = Progress(**found.state["progress"])
        training.early_stopping.load_state(found.state["early_stopping"])
        moments = below(found.optimizer, _MOMENTS)
        load_optimizer_tensors(training.backbone, training.optimizer, moments, origin=folder)
        restore_random(found.state["random"], below(found.optimizer, _RANDOM), origin=folder)
        step = training.progress.step
        self._tracker.rewind(int(found.state["metrics_position"]), step)
        self._tracker.say(f"goes on after step {step} of {training.total}")


def fit_positions(backbone: DecoderBackbone, checkpoint: Checkpoint) -> None:
    """Give a decoder as many rows of intra-entity positions as a checkpoint of other tables has.

    How many there are follows from the longest entity; what lies beyond shares the last row.
    """
    rows = checkpoint.model.get("intra.table.weight")
    if rows is None or len(rows) == backbone.intra.table.num_embeddings:
        return
    own = backbone.intra.table.weight
    backbone.intra = IntraTable(len(rows), backbone.width).to(own.device)
    backbone.intra.requires_grad_(own.requires_grad)


def take_trained(
    backbone: Backbone,
    checkpoint: Checkpoint,
    folder: Path,
    *,
    frozen: dict[str, str] | None = None,
) -> str:
    """Take what was trained; returns the id of the run that did.

    Args:
        backbone: of the same settings.
        checkpoint: what was read.
        folder: where it lay.
        frozen: hashes of what is not trained, where they are known.

    Raises:
        CheckpointError: of another model, or of other pretrained weights.
    """
    if checkpoint.state.get("system") != _MARK:
        raise CheckpointError(f"{folder}: not a checkpoint of RecSysLLM")
    load_model_tensors(backbone, checkpoint.model, origin=folder)
    own = frozen_hashes(backbone) if frozen is None else frozen
    check_frozen(own, checkpoint.state["frozen"], origin=folder)
    return str(checkpoint.state["run"])


def _optimizer(backbone: Backbone, settings: RecsysllmConfig) -> AdamW:
    """AdamW without weight decay on what has one dimension, on positions and on new tokens."""
    own = settings.training
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in backbone.named_parameters():
        if parameter.requires_grad:
            is_new = name.startswith(("intra.", "new_tokens")) or "position_embeddings" in name
            (plain if is_new or parameter.dim() < 2 else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": own.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], lr=own.lr)
