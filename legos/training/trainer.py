"""The trainer: steps, validation, early stopping, checkpoints; one process or many.

Every process goes through the same steps and takes its part of each. A signal is noted, the step or
save under way ends, and ``last`` is saved; during a validation it counts at once, and the resumed
run validates again.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import fields, is_dataclass, replace
from itertools import islice
from types import FrameType
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from legos.errors import LegosError
from legos.metrics.beyond import ALL
from legos.runs.folder import RunFolder
from legos.runs.tracking import OBSERVED, Tracker
from legos.training.optimizer import set_learning_rate
from legos.training.recipe import BEST, LAST, Loss, Recipe, Segment, Step
from legos.training.saved_state import SavedState

LOG_EVERY = 20  # steps between two training lines in metrics.jsonl
AHEAD = 2  # steps that are made before they are taken


class Pruned(LegosError):
    """A training that a search pruned; rerunning the same run continues it."""


class Measured(Protocol):
    """Metrics by subset of a split."""

    @property
    def rows(self) -> Mapping[str, Mapping[str, float]]: ...


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
        self._interruption = Interruption(
            tells=not tracker.console.quiet, launched=not recipe.replicas.alone
        )

    def train(self) -> None:
        """Train to the end, resuming from ``last``, and write ``best``.

        Raises:
            LegosError: a loss or the watched metric is not finite.
            Pruned: the tracker says that it ends here; what was saved stays.
            KeyboardInterrupt: a signal came; ``last`` is saved.
        """
        recipe, saved = self._recipe, self._saved
        saved.resume()
        with self._interruption as interruption:
            while (segment := recipe.segment()) is not None:
                begin = time.monotonic()
                if recipe.replicas.any(self._tracker.ends()):
                    raise Pruned("stopped early by the search")
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
            if not recipe.progress.step:  # without epochs the best is the model as it was
                saved.save(BEST)
        recipe.replicas.release()

    def _take_steps(self, segment: Segment) -> None:
        """Take the remaining steps of a segment."""
        recipe, saved, tracker = self._recipe, self._saved, self._tracker
        recipe.replicas.module.train(segment.dropout)
        with (
            tracker.progress(segment.title, segment.steps, segment.done) as advance,
            closing(prepared(recipe, segment)) as steps,
        ):
            for _ in range(segment.done, segment.steps):
                flags = [self._interruption.requested, saved.due]
                log, (stop, due) = take_step(recipe, flags, steps)
                advance(1, text=f"loss {log['loss']:.4f}")
                step = recipe.progress.step
                if step % LOG_EVERY == 0:
                    tracker.record({"kind": "train", **segment.labels, "step": step, **log})
                if stop or due or saved.is_at_step:
                    saved.save(LAST)
                if stop:
                    raise self._interrupted()

    def _measure(self, segment: Segment) -> tuple[float, bool]:
        """Validate; returns the watched metric, and whether it is the best so far."""
        begin, stopping = time.monotonic(), self._recipe.early_stopping
        try:
            at_once = self._recipe.replicas.alone
            with self._interruption.at_once() if at_once else nullcontext():
                metrics = self._recipe.replicas.of_main(self._validate())
        except KeyboardInterrupt:
            self._saved.save(LAST)
            raise self._interrupted() from None
        improved, state = False, ""
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        more: dict[str, object] = {"metrics": finite}
        if segment.measure == "choose":
            improved = stopping.update(metrics, epoch=segment.labels["epoch"])
            state = "best so far" if improved else f"best was epoch {stopping.best_epoch}"
            more["best"] = improved
        shown = [f"{name} {value:.4f}" for name, value in metrics.items()]
        text = "  ".join([*shown, f"({state})"] if state else shown)
        self._report(segment, "valid", more, text, time.monotonic() - begin)
        return stopping.watched(metrics), improved

    def _report(
        self, segment: Segment, kind: str, more: Mapping[str, object], text: str, seconds: float
    ) -> None:
        """Write the segment's line to metrics.jsonl and the terminal."""
        means = self._recipe.means() if segment.steps else {}
        named = dict(means)
        if kind == "valid" and means:
            named["train_loss"] = named.pop("loss")
        place = {"kind": kind, **segment.labels, "step": self._recipe.progress.step}
        observed = self._recipe.observed(segment) if segment.steps else {}
        more = {**more, OBSERVED: dict(observed)} if observed else more
        self._tracker.record({**place, **named, **more, "seconds": round(seconds, 3)})
        shown = [f"{name} {value:.4f}" for name, value in [*means.items(), *observed.items()]]
        text = text or f"{seconds:.1f} s"
        self._tracker.say("  ".join([segment.title, *shown, text]))

    def _interrupted(self) -> KeyboardInterrupt:
        step = self._recipe.progress.step
        self._tracker.say(f"interrupted at step {step}; saved, will resume")
        return KeyboardInterrupt()


def prepared(recipe: Recipe, segment: Segment) -> Generator[Step]:
    """Yield the remaining steps of a segment, prepared in a background thread.

    What they read waits in pinned memory where the device is a GPU. An error comes when the step
    would; a closed iterator makes no more than the step under way.
    """
    on_gpu = recipe.replicas.accelerator.device.type == "cuda"

    def make(number: int) -> Step:
        step = recipe.step(segment.first + number)
        return each_tensor(step, _pinned) if on_gpu else step

    waiting: deque[Future[Step]] = deque()
    numbers = iter(range(segment.done, segment.steps))
    with ThreadPoolExecutor(1, "examples") as thread:
        try:
            waiting.extend(thread.submit(make, number) for number in islice(numbers, AHEAD))
            while waiting:
                step = waiting.popleft().result()
                waiting.extend(thread.submit(make, number) for number in islice(numbers, 1))
                yield step
        finally:
            thread.shutdown(cancel_futures=True)


def each_tensor(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Copy tuples, lists and dataclasses with a function applied to every tensor."""
    if isinstance(value, Tensor):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        own = {each.name: getattr(value, each.name) for each in fields(value)}
        return replace(value, **{name: each_tensor(one, change) for name, one in own.items()})
    if isinstance(value, tuple | list):
        parts = [each_tensor(each, change) for each in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def _pinned(tensor: Tensor) -> Tensor:
    return tensor.pin_memory() if tensor.device.type == "cpu" else tensor


def take_step(
    recipe: Recipe, flags: Sequence[bool] = (), steps: Iterator[Step] | None = None
) -> tuple[dict[str, float], list[bool]]:
    """Take one optimizer step over its pieces.

    Args:
        recipe: what the step consists of.
        flags: what this process tells all others.
        steps: where the step comes from; None: it is made now.

    Returns:
        What to log and, for each flag, whether any process raised it: they agree on it in the
        message that sums the loss.

    Raises:
        Diverged: the loss or the gradient is not finite.
    """
    begin = time.perf_counter()
    replicas, step = recipe.replicas, next(steps) if steps else recipe.next_step()
    device = replicas.accelerator.device
    clip = recipe.train.clip
    set_learning_rate(replicas.optimizers[step.optimizer], recipe.rate)
    losses: list[Loss] = []
    for number, piece in enumerate(step.pieces, start=1):
        with replicas.accumulating(is_last=number == len(step.pieces)):
            loss = recipe.loss(each_tensor(piece, lambda each: each.to(device, non_blocking=True)))
            replicas.backward(loss.value, step.share)
            if loss.backward is not None:
                loss.backward()
        losses.append(loss._replace(value=loss.value.detach()))
    counts = [sum(each) for each in zip(*(loss.counts for loss in losses), strict=True)]
    total = torch.stack([loss.value for loss in losses]).sum()
    loss_sum, *rest = replicas.summed([total, *counts, *flags])
    norm = replicas.finish(clip, step.optimizer)
    if not math.isfinite(loss_sum) or not (math.isfinite(norm) or replicas.scales_gradients):
        raise recipe.not_finite(step, losses, norm)
    replicas.step(step.optimizer)
    log = recipe.count(loss_sum, rest[: len(counts)], time.perf_counter() - begin)
    if clip is not None and math.isfinite(norm):
        log["gradient_norm"] = norm
    return log, [flag > 0 for flag in rest[len(counts) :]]


def train(
    recipe: Recipe,
    evaluate: Callable[[], Measured | None],
    folder: RunFolder,
    tracker: Tracker,
) -> dict[str, Any]:
    """Train a recipe in a run folder.

    Args:
        recipe: what a step is, and what follows a segment.
        evaluate: measures the validation split; the result in the main process.
        folder: of the run.
        tracker: of the folder.

    Returns:
        What ``results.json`` says of every training: steps, metric, best, best_epoch.
    """

    def validate() -> Mapping[str, float]:
        result = evaluate()
        return result.rows[ALL] if result else {}

    begin = time.monotonic()
    saved = SavedState(recipe, folder.checkpoints, folder.id, tracker)
    Trainer(recipe, validate, saved, tracker).train()
    tracker.say(f"{time.monotonic() - begin:.0f} s in total")
    stopping = recipe.early_stopping
    found: dict[str, Any] = {"steps": recipe.progress.step}
    if stopping.best_epoch:
        best = {"best": stopping.best, "best_epoch": stopping.best_epoch}
        found |= {"metric": stopping.metric} | best
    return found


_SAME = 1.0  # seconds
SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}  # what a user calls them
_STOPPING = "\nstopping after this step; press {} again to stop at once and lose the step\n"


class Interruption:
    """A context in which a first signal is recorded and a second one interrupts at once.

    Args:
        tells: say on standard error what the first signal does.
        launched: a launcher passes on the Ctrl-C that the terminal sends to all processes, so that
            each gets it twice; what comes within a second counts once.

    Attributes:
        requested: a signal has come; the loop is to save and stop after its step.
    """

    def __init__(self, *, tells: bool = True, launched: bool = False) -> None:
        self.requested = False
        self._first, self._same = math.inf, _SAME if launched else 0.0
        self._tells, self._at_once = tells, False
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        # signals reach only the main thread; a run in another thread keeps its owner's handlers
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        if self.requested and kind is None:  # after the loop last looked
            raise KeyboardInterrupt

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A block without state worth saving: a signal interrupts it at once."""
        self._at_once = True
        try:
            if self.requested:
                raise KeyboardInterrupt
            yield
        finally:
            self._at_once = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._at_once or time.monotonic() - self._first >= self._same:
            raise KeyboardInterrupt
        if self.requested:
            return
        self.requested, self._first = True, time.monotonic()
        if self._tells:
            with suppress(OSError):  # print is not safe in here: the signal may have come within it
                os.write(2, _STOPPING.format(SIGNALS[signal.Signals(number)]).encode())
