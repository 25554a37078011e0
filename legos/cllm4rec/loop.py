"""The loop over stages, epochs, passes and steps; what it records, validates and saves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from legos.cllm4rec.checkpoints import BEST, LAST, PRETRAINED, StageKeeper
from legos.cllm4rec.pretrained import Pretrained
from legos.cllm4rec.stages import FINETUNING, PRETRAINING, Stage
from legos.cllm4rec.training import StageTraining
from legos.run.interruption import Interruption
from legos.run.tracking import Tracker

LOG_EVERY = 20  # steps between two training lines in metrics.jsonl

Validate = Callable[[], Mapping[str, float]]


def train_stages(
    training: StageTraining,
    validate: Validate,
    *,
    keeper: StageKeeper,
    tracker: Tracker,
    pretrained: Pretrained,
) -> None:
    """Train to the end of the last stage, going on from ``last``, and leave ``best``.

    Args:
        training: left in the state of the last step.
        validate: metrics of the validation split.
        keeper: of the checkpoints.
        tracker: of the run folder.
        pretrained: where runs that share this pretraining leave and find it.

    Raises:
        LegosError: a loss or the watched metric is not finite.
        KeyboardInterrupt: a signal came; ``last`` is saved.
    """
    if not keeper.resume():
        found = pretrained.find()
        if found is not None:
            keeper.start_from(found)
            tracker.say(f"begins with the pretraining of {found}")
            training.next_stage()
    loop = _Loop(training, validate, keeper, tracker)
    with Interruption() as interruption:
        while (stage := training.stage) is not None:
            if not training.stage_is_over:
                loop.run_pass(stage, interruption)
                continue
            if stage.name == PRETRAINING:
                keeper.save(PRETRAINED)
                pretrained.leave(keeper.path(PRETRAINED))
            training.next_stage()
            keeper.save(LAST)
    if not training.early_stopping.best_epoch:  # nothing was finetuned
        loop.measure(save=True)
        keeper.save(LAST)


class _Loop:
    """What a pass does besides its steps."""

    def __init__(
        self,
        training: StageTraining,
        validate: Validate,
        keeper: StageKeeper,
        tracker: Tracker,
    ) -> None:
        self._training, self._validate = training, validate
        self._keeper, self._tracker = keeper, tracker

    def run_pass(self, stage: Stage, interruption: Interruption) -> None:
        """From where the pass stands to its end, and what comes after it."""
        training, progress, tracker = self._training, self._training.progress, self._tracker
        task, steps = training.current.task, training.steps
        title, begin = f"{stage.name} {progress.epoch + 1} {task}", time.monotonic()
        with tracker.progress(title, steps, progress.position) as advance:
            while progress.position < steps:
                log = training.take_step()
                advance(1, text=f"loss {log['loss']:.4f}")
                if progress.step % LOG_EVERY == 0:
                    tracker.record({**self._place("train", stage), "task": task, **log})
                if interruption.requested or self._keeper.due:
                    self._keeper.save(LAST)
                if interruption.requested:
                    tracker.say(f"interrupted at step {progress.step}; saved, will resume")
                    raise KeyboardInterrupt
        loss, likelihood = training.end_pass()
        self._report(stage, task, loss, likelihood, time.monotonic() - begin)
        self._after_pass(stage, task, loss)
        if progress.part == len(stage.passes):
            training.end_epoch()

    def measure(self, *, save: bool) -> float:
        """Measure on the valid split; save ``best`` where it is asked for and is better."""
        training, progress, begin = self._training, self._training.progress, time.monotonic()
        metrics, stopping = self._validate(), training.early_stopping
        improved = False
        if save:
            improved = stopping.update(metrics, epoch=max(1, progress.epochs + bool(progress.part)))
        self._tracker.record(
            {
                **self._place("valid", training.stage),
                "metrics": {name: value for name, value in metrics.items() if math.isfinite(value)},
                "best": improved,
                "seconds": round(time.monotonic() - begin, 3),
            }
        )
        shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        self._tracker.say(f"valid  {shown}{'  (best so far)' if improved else ''}")
        if improved:
            self._keeper.save(BEST)
        found = {name.lower(): value for name, value in metrics.items()}
        return float(found.get(stopping.metric.lower(), math.nan))

    def _after_pass(self, stage: Stage, task: str, loss: float) -> None:
        """Validation, and which content tables finetuning is to start from."""
        chosen = self._training.model.settings.content.checkpoint
        if stage.measured and task == stage.passes[0].task:
            self.measure(save=True)
        if stage.name == FINETUNING or task != "content" or chosen == "last":
            return
        if chosen == "training_loss":  # of the language model alone in warm-up: as published
            self._training.keep_content(loss)
        elif stage.name == PRETRAINING:
            score = self.measure(save=False)
            maximize = self._training.early_stopping.maximize
            self._training.keep_content(-score if maximize else score)

    def _report(
        self, stage: Stage, task: str, loss: float, likelihood: float, seconds: float
    ) -> None:
        line = {
            **self._place("pass", stage),
            "task": task,
            "loss": loss,
            "likelihood": likelihood,
            "seconds": round(seconds, 3),
        }
        self._tracker.record(line)
        unit = "a user" if task == "recommendation" else "a token"
        self._tracker.say(
            f"{stage.name} {self._training.progress.epoch + 1}  {task}  loss {loss:.4f}  "
            f"negative log-likelihood {likelihood:.4f} {unit}  {seconds:.1f} s"
        )

    def _place(self, kind: str, stage: Stage | None) -> dict[str, object]:
        progress = self._training.progress
        return {
            "kind": kind,
            "epoch": progress.epochs + 1 if stage is not None else progress.epochs,
            "step": progress.step,
            "stage": "" if stage is None else stage.name,
        }
