"""The training loop: steps, validation, early stopping, checkpoints; one process or many.

Every process goes through the same steps and takes its part of each micro-batch. The loss of a step
is the mean over all its rows, however they are split into micro-batches and processes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from legos.data.batch import Batch
from legos.errors import LegosError
from legos.run.gradient_cache import CachedItems, average_gradients
from legos.run.interruption import Interruption
from legos.run.keeper import Keeper
from legos.run.losses import Contrast, batch_losses
from legos.run.optimizer import set_learning_rate
from legos.run.schedule import learning_rate_factor, rank_part
from legos.run.tracking import Tracker
from legos.run.training import Training

LOG_EVERY = 20  # steps between two training lines in metrics.jsonl
_NAMED = 5  # impressions named by an error


def train(
    training: Training,
    validate: Callable[[], Mapping[str, float]],
    *,
    checkpoints: Path,
    run_id: str,
    tracker: Tracker,
) -> None:
    """Train to the last epoch or until early stopping, going on from ``checkpoints/last``.

    Args:
        training: the model and what its steps need; left in the state of the last step.
        validate: metrics of the validation split; called by every process, same result in each.
        checkpoints: folder of ``best`` and ``last``.
        run_id: written into the checkpoints.
        tracker: of the run folder.

    Raises:
        LegosError: a loss or the watched metric is not finite.
        KeyboardInterrupt: a signal came; ``last`` is saved.
    """
    keeper = Keeper(training, checkpoints, run_id, tracker)
    keeper.resume()
    config, progress, stopping = training.config, training.progress, training.early_stopping
    with Interruption() as interruption:
        while progress.epoch < config.epochs and not stopping.stop:
            epoch, end = progress.epoch + 1, training.epoch_end
            training.model.train()
            with tracker.progress(f"epoch {epoch}", end - training.epoch_start) as advance:
                advance(progress.step - training.epoch_start)
                while progress.step < end:
                    log, (stop, due) = take_step(training, [interruption.requested, keeper.due])
                    advance(1, text=f"loss {log['loss']:.4f}")
                    if progress.step % LOG_EVERY == 0:
                        place = {"kind": "train", "epoch": epoch, "step": progress.step}
                        tracker.record({**place, **log})
                    if stop or due or at_checkpoint_step(training):
                        keeper.save("last")
                    if stop:
                        tracker.say(f"interrupted at step {progress.step}; saved, will resume")
                        raise KeyboardInterrupt
            begin = time.monotonic()
            try:
                with interruption.at_once() if training.alone else nullcontext():
                    metrics = validate()
            except KeyboardInterrupt:
                keeper.save("last")
                tracker.say(f"interrupted after step {progress.step}; saved, will resume")
                raise
            improved = stopping.update(metrics, epoch=epoch)
            report_epoch(training, metrics, improved, time.monotonic() - begin, tracker)
            training.end_epoch()
            if improved:
                keeper.save("best")
            keeper.save("last")


def take_step(training: Training, flags: list[bool]) -> tuple[dict[str, float], list[bool]]:
    """One optimizer step over its micro-batches.

    Args:
        training: the model and what its steps need.
        flags: what this process wants to tell all others.

    Returns:
        What to log (loss, learning_rate, gradient_norm) and, for each flag, whether any process
        raised it: they agree on it in the message that adds up the loss.

    Raises:
        LegosError: the loss or the gradient is not finite.
    """
    begin = time.perf_counter()
    accelerator, config, progress = training.accelerator, training.config, training.progress
    rate = learning_rate_factor(
        progress.step,
        total=config.epochs * training.stream.steps_per_epoch,
        warmup=config.warmup,
        schedule=config.schedule,
    )
    set_learning_rate(training.optimizer, rate)
    step = training.stream.rows(progress.step)
    losses: list[tuple[Tensor, Tensor]] = []  # rows and their losses
    for number, micro in enumerate(step.micro_batches, start=1):
        rows, counted = rank_part(micro, accelerator.process_index, accelerator.num_processes)
        batch = training.rows.batch(rows, pass_number=step.pass_number)
        # processes' gradients are averaged; times their number they are summed over all rows
        share = accelerator.num_processes / step.total
        is_last = number == len(step.micro_batches)
        loss = add_gradient(training, batch, counted=counted, share=share, is_last=is_last)
        losses.append((rows[:counted], loss))
    total, *raised = add_up(training, losses, flags)
    norm = clip_gradient(training)
    if not math.isfinite(total) or not (math.isfinite(norm) or training.scales_gradients):
        raise not_finite(training, losses)
    training.step_optimizer()
    training.count_step(loss_sum=total, rows=step.total, seconds=time.perf_counter() - begin)
    log = {"loss": total / step.total, "learning_rate": config.lr * rate}
    if config.clip is not None and math.isfinite(norm):
        log["gradient_norm"] = norm
    return log, [flag > 0 for flag in raised]


def add_gradient(
    training: Training, batch: Batch, *, counted: int, share: float, is_last: bool
) -> Tensor:
    """Add the gradient of a micro-batch, at the last one averaged over processes.

    Args:
        training: the model and what its steps need.
        batch: the rows of this process.
        counted: rows that count, the first ones.
        share: of a row in the gradient.
        is_last: of the step's micro-batches.

    Returns:
        The losses of the rows that count: ``(counted,)``, without a graph.
    """
    accelerator, page_size = training.accelerator, training.config.item_page_size
    # a part of a wrapped model does not average gradients; all processes must agree on who does
    by_hand = page_size > 0 and not training.alone
    model = training.bare_model if by_hand else training.model
    cached: CachedItems | None = None
    if 0 < page_size < batch.items.numel():
        cached = CachedItems(
            training.bare_model,
            training.store,
            batch.items,
            page_size=page_size,
            autocast=accelerator.autocast,
        )
    vectors = None if cached is None else cached.vectors
    with nullcontext() if is_last and not by_hand else accelerator.no_sync(training.model):
        with accelerator.autocast():
            whole = batch.targets is not None  # every item competes: nothing is to be selected
            items = training.store.whole() if whole else training.store.batch(batch.items)
            scores, penalty = model(batch, items, training.profiles, vectors)
        config = training.config
        contrast = Contrast(config.margin, config.negative_weight)
        loss = batch_losses(config.loss, scores, batch, contrast)
        loss = (loss if penalty is None else loss + penalty)[:counted]
        training.backward(loss.sum() * share)
        if cached is not None:
            cached.backward()
    if by_hand and is_last:
        average_gradients(model, accelerator)
    return loss.detach()


def add_up(
    training: Training, losses: list[tuple[Tensor, Tensor]], flags: list[bool]
) -> list[float]:
    """The sum of all rows' losses and of each flag, over all processes."""
    total = torch.stack([loss.sum() for _, loss in losses]).sum()[None]
    message = torch.cat([total, torch.tensor(flags, dtype=total.dtype, device=total.device)])
    if not training.alone:
        message = training.accelerator.reduce(message)
    summed: list[float] = message.tolist()
    return summed


def clip_gradient(training: Training) -> float:
    """Clip to the global norm asked for; returns the norm before (0 when not asked for)."""
    if training.config.clip is None:
        return 0.0
    parameters = training.model.parameters()
    return float(training.accelerator.clip_grad_norm_(parameters, training.config.clip))


def not_finite(training: Training, losses: list[tuple[Tensor, Tensor]]) -> LegosError:
    """The error that names the batch, its rows with a bad loss first."""
    rows = torch.cat([rows for rows, _ in losses]).cpu()
    bad = ~torch.cat([loss for _, loss in losses]).cpu().isfinite()
    culprits = rows[bad] if bad.any() else rows
    names = [training.impression_name(int(row)) for row in culprits[:_NAMED]]
    more = f" and {len(culprits) - _NAMED} more" if len(culprits) > _NAMED else ""
    progress = training.progress
    return LegosError(
        f"{'loss' if bad.any() else 'gradient'} is not finite in epoch {progress.epoch + 1}, step "
        f"{progress.step + 1}: training rows of impressions {', '.join(names)}{more}; lower "
        "exp.train.lr, set exp.train.clip, or use exp.precision fp32"
    )


def at_checkpoint_step(training: Training) -> bool:
    """Whether ``exp.train.checkpoint_steps`` asks for a checkpoint now."""
    steps = training.config.checkpoint_steps
    return steps > 0 and training.progress.step % steps == 0


def report_epoch(
    training: Training,
    metrics: Mapping[str, float],
    improved: bool,
    seconds: float,
    tracker: Tracker,
) -> None:
    """The epoch's line in metrics.jsonl and on the terminal."""
    progress, stopping = training.progress, training.early_stopping
    loss = progress.loss_sum / max(1, progress.loss_rows)
    tracker.record(
        {
            "kind": "valid",
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "train_loss": loss,
            "metrics": {name: value for name, value in metrics.items() if math.isfinite(value)},
            "best": improved,
            "seconds": round(seconds, 3),
        }
    )
    shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
    state = "best so far" if improved else f"best was epoch {stopping.best_epoch}"
    tracker.say(f"epoch {progress.epoch + 1}  loss {loss:.4f}  {shown}  ({state})")
