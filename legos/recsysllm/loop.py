"""The loop over steps and epochs; what it records, measures and saves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from legos.recsysllm.training import BEST, LAST, InfillTraining, TrainingKeeper
from legos.run.interruption import Interruption
from legos.run.tracking import Tracker

LOG_EVERY = 20  # steps between two training lines in metrics.jsonl


def train_epochs(
    training: InfillTraining,
    validate: Callable[[], Mapping[str, float]],
    *,
    keeper: TrainingKeeper,
    tracker: Tracker,
) -> None:
    """Train to the end, going on from ``last``, and leave ``best``.

    Without epochs ``best`` is the language model as it was.

    Args:
        training: left in the state of the last step.
        validate: metrics of the validation split.
        keeper: of the checkpoints.
        tracker: of the run folder.

    Raises:
        LegosError: a loss or the watched metric is not finite.
        KeyboardInterrupt: a signal came; ``last`` is saved.
    """
    keeper.resume()
    with Interruption() as interruption:
        while not training.is_over:
            _run_epoch(training, keeper, tracker, interruption)
            begin, loss = time.monotonic(), training.end_epoch()
            _measure(training, validate, keeper, tracker, loss)
            keeper.save(LAST)
            tracker.say(f"measured and saved in {time.monotonic() - begin:.1f} s")
    if not training.early_stopping.best_epoch and not training.progress.epochs:
        keeper.save(BEST)


def _run_epoch(
    training: InfillTraining, keeper: TrainingKeeper, tracker: Tracker, interruption: Interruption
) -> None:
    progress, steps = training.progress, training.stream.steps_per_epoch
    done = progress.step - progress.epochs * steps
    with tracker.progress(f"epoch {progress.epochs + 1}", steps, done) as advance:
        while not training.epoch_is_over:
            log = training.take_step()
            advance(1, text=f"loss {log['loss']:.4f}")
            if progress.step % LOG_EVERY == 0:
                place = {"kind": "train", "epoch": progress.epochs + 1, "step": progress.step}
                tracker.record({**place, **log})
            if interruption.requested or keeper.due:
                keeper.save(LAST)
            if interruption.requested:
                tracker.say(f"interrupted at step {progress.step}; saved, will resume")
                raise KeyboardInterrupt


def _measure(
    training: InfillTraining,
    validate: Callable[[], Mapping[str, float]],
    keeper: TrainingKeeper,
    tracker: Tracker,
    loss: float,
) -> None:
    begin, progress = time.monotonic(), training.progress
    metrics = validate()
    improved = training.early_stopping.update(metrics, epoch=progress.epochs)
    tracker.record(
        {
            "kind": "valid",
            "epoch": progress.epochs,
            "step": progress.step,
            "train_loss": loss,
            "metrics": dict(metrics),
            "best": improved,
            "seconds": round(time.monotonic() - begin, 3),
        }
    )
    shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
    best = "  (best so far)" if improved else ""
    tracker.say(f"epoch {progress.epochs}  loss {loss:.4f}  {shown}{best}")
    if improved:
        keeper.save(BEST)
