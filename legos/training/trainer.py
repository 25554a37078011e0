"""The trainer: steps, validation, early stopping, checkpoints; one process or many.

Every process goes through the same steps and takes its part of each. A signal is noted, the step or
save under way ends, and ``last`` is saved; during a validation it counts at once, and the resumed
run validates again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext

from legos.runs.tracking import Tracker
from legos.training.interruption import Interruption
from legos.training.recipe import BEST, LAST, Recipe, Segment
from legos.training.saved_state import SavedState
from legos.training.step import take_step

LOG_EVERY = 20  # steps between two training lines in metrics.jsonl

Validate = Callable[[], Mapping[str, float]]
"""Metrics of the validation split; called by every process, those of the main one count."""


class Trainer:
    """Trains a recipe to its last segment.

    Args:
        recipe: what a step is, and what follows a segment.
        validate: metrics of the validation split.
        saved: the checkpoints.
        tracker: of the run folder.
    """

    def __init__(
        self, recipe: Recipe, validate: Validate, saved: SavedState, tracker: Tracker
    ) -> None:
        self._recipe, self._validate = recipe, validate
        self._saved, self._tracker = saved, tracker
        self._interruption = Interruption()

    def train(self) -> None:
        """Train to the end, resuming from ``last``, and leave ``best``.

        Raises:
            LegosError: a loss or the watched metric is not finite.
            KeyboardInterrupt: a signal came; ``last`` is saved.
        """
        recipe, saved = self._recipe, self._saved
        saved.resume()
        with self._interruption as interruption:
            while (segment := recipe.segment()) is not None:
                begin = time.monotonic()
                self._take_steps(segment)
                score, improved = math.nan, False
                if segment.measure != "no":
                    score, improved = self._measure(segment)
                elif segment.steps:
                    self._report(segment, "pass", {}, "", time.monotonic() - begin)
                if segment.keep:
                    saved.save(segment.keep)
                recipe.after(segment, score)
                if improved:
                    saved.save(BEST)
                if segment.save:
                    saved.save(LAST)
                if recipe.replicas.any(interruption.requested):
                    if not segment.save:
                        saved.save(LAST)
                    raise self._interrupted()
        recipe.replicas.release()

    def _take_steps(self, segment: Segment) -> None:
        """The steps of a segment that are still to be taken."""
        recipe, saved, tracker = self._recipe, self._saved, self._tracker
        recipe.replicas.module.train(segment.dropout)
        with tracker.progress(segment.title, segment.steps, segment.done) as advance:
            for _ in range(segment.done, segment.steps):
                log, (stop, due) = take_step(recipe, [self._interruption.requested, saved.due])
                advance(1, text=f"loss {log['loss']:.4f}")
                step = recipe.progress.step
                if step % LOG_EVERY == 0:
                    tracker.record({"kind": "train", **segment.labels, "step": step, **log})
                if stop or due or saved.is_at_step:
                    saved.save(LAST)
                if stop:
                    raise self._interrupted()

    def _measure(self, segment: Segment) -> tuple[float, bool]:
        """Validate; the watched metric, and whether it is to be kept as the best."""
        begin, stopping = time.monotonic(), self._recipe.early_stopping
        try:
            at_once = self._recipe.replicas.alone
            with self._interruption.at_once() if at_once else nullcontext():
                metrics = self._recipe.replicas.of_main(self._validate())
        except KeyboardInterrupt:
            self._saved.save(LAST)
            raise self._interrupted() from None
        improved, state = False, ""
        if segment.measure == "choose":
            improved = stopping.update(metrics, epoch=segment.labels["epoch"])
            state = "best so far" if improved else f"best was epoch {stopping.best_epoch}"
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        more = {"metrics": finite, "best": improved}
        shown = [f"{name} {value:.4f}" for name, value in metrics.items()]
        text = "  ".join([*shown, f"({state})"] if state else shown)
        self._report(segment, "valid", more, text, time.monotonic() - begin)
        return stopping.watched(metrics), improved

    def _report(
        self, segment: Segment, kind: str, more: Mapping[str, object], text: str, seconds: float
    ) -> None:
        """The segment's line in metrics.jsonl and on the terminal."""
        means = self._recipe.means() if segment.steps else {}
        named = dict(means)
        if kind == "valid" and means:
            named["train_loss"] = named.pop("loss")
        place = {"kind": kind, **segment.labels, "step": self._recipe.progress.step}
        self._tracker.record({**place, **named, **more, "seconds": round(seconds, 3)})
        shown = [f"{name} {value:.4f}" for name, value in means.items()]
        text = text or f"{seconds:.1f} s"
        self._tracker.say("  ".join([segment.title, *shown, text]))

    def _interrupted(self) -> KeyboardInterrupt:
        step = self._recipe.progress.step
        self._tracker.say(f"interrupted at step {step}; saved, will resume")
        return KeyboardInterrupt()
