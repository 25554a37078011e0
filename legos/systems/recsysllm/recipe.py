"""Training of RecSysLLM: epochs over a mixture of task prompts and histories with blanks.

The examples of a step are a function of (seed, step), so that a training goes on after any step as
if it had never been stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from legos.data.ragged import Ragged, offsets_of, stack
from legos.data.rows import token_batches
from legos.errors import CheckpointError, Diverged
from legos.runs.checkpoint import Checkpoint
from legos.systems.recsysllm.backbones.decoder import Backbone, DecoderBackbone
from legos.systems.recsysllm.decoding import token_losses
from legos.systems.recsysllm.masking import sample_blanks
from legos.systems.recsysllm.positions import (
    IGNORE,
    Examples,
    Layout,
    SpecialTokens,
    build_examples,
    lay_out,
)
from legos.systems.recsysllm.settings import RecsysllmConfig
from legos.systems.recsysllm.tasks.documents import HistoryWriter
from legos.systems.recsysllm.tasks.events import (
    HELD_OUT,
    SEPARATOR,
    HorizonSampler,
    choice,
    uniform,
)
from legos.systems.recsysllm.world import World
from legos.training.distributed import Replicas
from legos.training.early_stopping import EarlyStopping
from legos.training.epochs import PlainEpochs
from legos.training.optimizer import Group, build_optimizer, decays
from legos.training.recipe import Loss, ResumableRecord, Segment, Step, record_of
from legos.training.weights import frozen_hashes

if TYPE_CHECKING:
    from legos.config.train_schema import TrainConfig

_INFILL, _USER, _SPANS = 72, 73, 74  # keys of random numbers
_FOR_TEXT = 0.8  # of the most tokens; the rest is for masks and [START]s


class TrainingStream:
    """Examples of every step.

    Args:
        train: ``exp.train``; a step has ``batch_size`` times ``acc_batch`` examples.

    Attributes:
        mixture: of all task families.
        size: examples of a step.
        steps_per_pass: steps that read every example once.
        steps_per_epoch: steps after which a training is measured.

    Raises:
        ConfigError: no family has both a weight and examples, or windows in days where times are
            unknown.
    """

    def __init__(self, world: World, special: SpecialTokens, train: TrainConfig) -> None:
        self._world, self._special, self._seed = world, special, train.seed
        self.mixture = world.families.mixture()
        self.size, self._share = train.batch_size * train.acc_batch, train.infill_share
        self.steps_per_pass = max(1, -(-len(self.mixture) // self.size))
        self.steps_per_epoch = train.epoch_steps or self.steps_per_pass
        if self._share:
            self._windows = HorizonSampler(
                world.families.sequences.times,
                held_out=HELD_OUT,
                settings=world.settings.tasks.horizons,
                seed=train.seed,
            )
            self._users = self._windows.usable()
            own = world.families
            self._writer = HistoryWriter(
                own.catalogue, own.sequences, own.reviews, world.settings.tasks.documents
            )
            if not len(self._users):
                self._share = 0.0

    def examples(self, step: int) -> Examples:
        """The examples of a step (from 0) on the CPU, histories after prompts."""
        world = self._world
        rows = torch.arange(step * self.size, (step + 1) * self.size)
        draw = uniform(rows, 1, _INFILL, seed=self._seed, epoch=0)[:, 0]
        prompts, histories = rows[draw >= self._share], rows[draw < self._share]
        parts = []
        if len(prompts):
            instances = self.mixture.batch(prompts, epoch=step // self.steps_per_epoch)
            parts.append(world.examples(instances, self._special))
        if len(histories):
            parts.append(self._histories(histories, step))
        return join_examples(parts)

    def _histories(self, rows: Tensor, step: int) -> Examples:
        """A window of a user's past with blanks for each of ``rows`` ``(n,)``."""
        world, key = self._world, {"seed": self._seed, "epoch": 0}
        users = self._users[choice(rows, len(self._users), _USER, **key)]
        events = self._windows.draw(users, epoch=step).events
        arrows = uniform(rows, 1, SEPARATOR, **key)[:, 0] < 0.5
        written = [
            self._writer.document(reader, events.row(at).tolist(), arrow=arrow)
            for at, (reader, arrow) in enumerate(zip(users.tolist(), arrows.tolist(), strict=True))
        ]
        positions = world.settings.positions
        documents = world.tokenizer.encode(written).truncated(int(positions.max_tokens * _FOR_TEXT))
        blanks = sample_blanks(
            documents,
            rows,
            world.settings.masking,
            seed=self._seed,
            epoch=0,
            max_tokens=positions.max_tokens - positions.prepend_cls,
        )
        count = torch.arange(len(blanks.ranges.values))
        order = uniform(count, 1, _SPANS, seed=self._seed, epoch=step)[:, 0]
        return build_examples(
            documents, blanks, self._special, positions,
            world.automaton, span_order=order if positions.shuffle_spans else None,
        )  # fmt: skip


def join_examples(parts: Sequence[Examples]) -> Examples:
    """Concatenate examples; at least one part."""
    lengths = torch.cat([part.lengths for part in parts])
    names = ("tokens", "targets", "inter", "intra", "prompt_lengths")
    columns = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    masks = stack([part.masks for part in parts])
    return Examples(**columns, offsets=offsets_of(lengths), masks=masks)


_ENOUGH = 1024  # tokens that are worth a forward pass


@dataclass
class Progress:
    """Position in the training; saved with every checkpoint.

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
    """The part of ``state.json`` that training needs."""

    progress: record_of(Progress)  # type: ignore[valid-type]


class InfillLoss(nn.Module):
    """Mean negative log-likelihood of the tokens and [END] of all blanks.

    A module, so that a wrapper of many processes sees its ``forward``. With reduction ``tokens``
    every target counts the same (GLM), with ``examples`` every example does (P5).
    """

    def __init__(self, backbone: Backbone, reduction: Literal["tokens", "examples"]) -> None:
        super().__init__()
        self.backbone, self._reduction = backbone, reduction

    def forward(self, examples: Examples, layout: Layout) -> Tensor:
        """The loss of examples on the backbone's device: fp32 scalar; 0 without targets."""
        at = (examples.targets != IGNORE).nonzero()[:, 0]
        states = self.backbone.states(layout.inputs, layout.mask)
        chosen = states.flatten(0, 1).index_select(0, layout.slots[at])  # (M, D)
        losses = token_losses(self.backbone, chosen, examples.targets[at])
        if not len(at):
            return losses.sum()
        if self._reduction == "tokens":
            return losses.mean()
        rows = Ragged(examples.tokens, examples.offsets).rows[at]
        counts = torch.bincount(rows, minlength=len(examples))
        weights = 1.0 / (counts[rows] * (counts > 0).sum())
        return (losses * weights).sum()


class Piece(NamedTuple):
    """Examples that are read together.

    Attributes:
        examples: of a group.
        share: of their mean loss in the loss of the step.
        counts: whether they count at all.
    """

    examples: Examples
    share: float
    counts: bool


class InfillRecipe(PlainEpochs):
    """Steps over the mixture; an epoch is measured after its last one."""

    system = "recsysllm"
    record = _Resumable
    stream: TrainingStream
    progress: Progress

    def __init__(
        self,
        accelerator: Accelerator,
        backbone: Backbone,
        stream: TrainingStream,
        settings: RecsysllmConfig,
        train: TrainConfig,
    ) -> None:
        self.accelerator, self.backbone, self.stream = accelerator, backbone, stream
        self.settings, self.train = settings, train
        self.early_stopping = EarlyStopping.of(train)
        self.rows_per_step = stream.size
        self.frozen = frozen_hashes(backbone)
        self.progress = Progress()
        self.replicas = Replicas(
            accelerator,
            InfillLoss(backbone, train.reduction),
            {"": _optimizer(backbone, train)},
            trained=backbone,
        )

    @property
    def epochs_done(self) -> int:
        """Number of epochs done."""
        return self.progress.epochs

    def step(self, number: int) -> Step:
        """The examples of the step in groups that are read together, of each a share.

        Every process builds all examples, since what a group counts follows from all of them, and
        reads as many groups as the others. Of a group that has nothing left for it, it reads one
        example, which does not count.
        """
        own = self.train
        examples = self.stream.examples(number)
        is_target = examples.targets != IGNORE
        rows = Ragged(examples.tokens, examples.offsets).rows
        counts = torch.bincount(rows[is_target], minlength=len(examples))  # (N,)
        weights = counts if own.reduction == "tokens" else (counts > 0).long()
        total = max(1, int(weights.sum()))
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        budget = max(own.batch_tokens, int(examples.lengths.max())) * processes
        pieces = []
        for group in length_batches(examples.lengths, budget):
            chosen = group[rank::processes]
            counts_at_all = len(chosen) > 0
            chosen = chosen if counts_at_all else group[:1]
            share = int(weights[chosen].sum()) / total if counts_at_all else 0.0
            pieces.append(Piece(examples.select(chosen), share, counts_at_all))
        return Step(pieces)

    def loss(self, piece: Piece) -> Loss:
        """The likelihood of what fills the blanks."""
        examples = piece.examples
        layout = lay_out(
            examples,
            pad=self.backbone.special.pad,
            row_tokens=int(examples.lengths.max()),
            bidirectional=self.settings.backbone.both_ways,
        )
        with self.accelerator.autocast():
            loss: Tensor = self.replicas.module(examples, layout)
        targets = (examples.targets != IGNORE).sum()
        numbers = (examples.tokens.numel(), targets) if piece.counts else (0, 0)
        return Loss(loss * piece.share, counts=numbers)

    def not_finite(self, step: Step, losses: Sequence[Loss], norm: float) -> Diverged:
        """Return an error with loss and gradient norm of the step."""
        loss = float(sum(loss.value for loss in losses))
        return Diverged(
            f"loss {loss}, gradient {norm} in step {self.progress.step + 1}: not finite; lower "
            "exp.train.lr, or use exp.precision fp32"
        )

    def count(self, loss: float, counts: Sequence[float], seconds: float) -> dict[str, float]:
        """Loss and learning rate."""
        progress = self.progress
        log = {"loss": loss, "learning_rate": self.train.lr * self.rate}
        progress.step += 1
        progress.loss_sum += loss
        progress.tokens += int(counts[0])
        progress.targets += int(counts[1])
        progress.seconds += seconds
        return log

    def means(self) -> dict[str, float]:
        """The mean loss of a step."""
        return {"loss": self.progress.loss_sum / self.stream.steps_per_epoch}

    def after(self, segment: Segment, score: float) -> None:
        """Start the next epoch."""
        self.progress.loss_sum, self.progress.epochs = 0.0, self.progress.epochs + 1


def length_batches(lengths: Tensor, budget: int) -> list[Tensor]:
    """Group examples of similar lengths that are read together, with limited tokens.

    Attention costs a row's tokens times its width, and short examples pack tightly into narrow
    rows; groups of few tokens are not worth a forward pass of their own. Lengths are
    ``(N,)`` int64; a group is ``(n,)`` int64 numbers.
    """
    groups: list[Tensor] = []
    for group in token_batches(lengths, budget):  # the longest first
        begin = used = 0
        for at, number in enumerate(group.tolist()):
            length = int(lengths[number])
            if used >= _ENOUGH and 2 * length <= int(lengths[group[begin]]):
                groups.append(group[begin:at])
                begin, used = at, 0
            used += length
        groups.append(group[begin:])
    return groups


def refuse_without_inter(checkpoint: Checkpoint, folder: Path) -> None:
    """Raise CheckpointError for a decoder that was trained before it had inter-positions."""
    if "intra.table.weight" in checkpoint.model and "inter.table.weight" not in checkpoint.model:
        raise CheckpointError(
            f"{folder}: has no table of inter-positions (inter.table.weight), without which a "
            "decoder cannot tell its blanks apart: an older version trained it; train it again"
        )


def fit_positions(backbone: DecoderBackbone, checkpoint: Checkpoint) -> None:
    """Give a decoder's tables of positions as many rows as those of other tables' checkpoint.

    How many there are follows from the longest entity and the longest example; what lies beyond
    shares the last row.
    """
    for name in ("inter", "intra"):
        stored, own = checkpoint.model.get(f"{name}.table.weight"), getattr(backbone, name)
        if stored is not None and len(stored) != own.table.num_embeddings:
            setattr(backbone, name, own.resized(len(stored)))


def _optimizer(backbone: Backbone, train: TrainConfig) -> Optimizer:
    """Build AdamW; no weight decay on vectors, positions and new tokens."""

    def group(name: str, parameter: nn.Parameter) -> Group:
        is_new = (
            name.startswith(("inter.", "intra.", "new_tokens")) or "position_embeddings" in name
        )
        return "soft_tokens" if is_new else "adapters"

    return build_optimizer(
        backbone.named_parameters(),
        train,
        group,
        decays=lambda name, each: decays(name, each) and group(name, each) == "adapters",
        fused=None,
    )
