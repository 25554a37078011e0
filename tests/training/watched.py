"""A run that is watched and, at one event, hit by signals, as a user or a cluster sends them.

What is watched belongs to torch and to Python (steps of optimizers, modules that score without
gradients, files and folders that take their place), so no test knows how the training is written.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from legos.config.schema import RunConfig
from legos.errors import run_command
from legos.modes.main import run

CHECKPOINTS = ("last", "best", "pretrained")
DESCRIBE, STEP, STEPPED, SCORE, RESULTS = "describe", "step", "stepped", "score", "results"


class Strike(NamedTuple):
    """When a run is hit.

    Attributes:
        event: its name.
        nth: which of these events, counted from 0.
        signals: sent one after the other.
    """

    event: str
    nth: int
    signals: Sequence[signal.Signals] = (signal.SIGINT,)


@dataclass
class Watched:
    """What a run did.

    Attributes:
        strike: when it is hit, if at all.
        code: its exit code.
        events: in order; ``step`` and ``stepped`` before and after an optimizer's step, ``score``
            before a module reads without gradients, ``last``, ``best`` and ``pretrained`` before
            that checkpoint takes its place, ``describe`` and ``results`` before ``config.json``
            and ``results.json`` do.
    """

    strike: Strike | None = None
    code: int = 0
    events: list[str] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Optimizer steps taken."""
        return self.events.count(STEPPED)

    def note(self, event: str) -> None:
        """Note an event, and send the signals if it is time."""
        is_time = (event, self.events.count(event)) == (self.strike or ())[:2]
        self.events.append(event)
        for number in self.strike.signals if self.strike and is_time else ():
            signal.raise_signal(number)


def watch(config: RunConfig, strike: Strike | None = None) -> Watched:
    """Do a run in this process, as ``worker.py`` does it."""
    with striking(strike) as watched:
        watched.code = run_command(lambda words: _run(config), [])
    return watched


def _run(config: RunConfig) -> None:
    run(config)


@contextmanager
def striking(strike: Strike | None) -> Iterator[Watched]:
    """Watch the run in the block, and hit it."""
    watched = Watched(strike)
    note = watched.note

    def placing(move: Callable[..., None]) -> Callable[..., None]:
        def moved(source: Any, target: Any, **more: Any) -> None:
            path = Path(target)
            if path.parent.name == "checkpoints" and path.name in CHECKPOINTS:
                note(path.name)
            elif path.name in ("config.json", "results.json"):
                note(DESCRIBE if path.name == "config.json" else RESULTS)
            move(source, target, **more)

        return moved

    def scoring(module: torch.nn.Module, given: Any) -> None:
        if not torch.is_grad_enabled():
            note(SCORE)

    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    with ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGINT, former)
        for hook in (
            register_optimizer_step_pre_hook(lambda *_: note(STEP)),
            register_optimizer_step_post_hook(lambda *_: note(STEPPED)),
            register_module_forward_pre_hook(scoring),
        ):
            stack.callback(hook.remove)
        stack.enter_context(mock.patch("os.rename", placing(os.rename)))
        stack.enter_context(mock.patch("os.replace", placing(os.replace)))
        yield watched


def kill_at(config: Path, event: str, nth: int) -> None:
    """Do a run and kill this very process at an event; the code of a run that outlives it."""
    settings = RunConfig.model_validate(json.loads(config.read_text(encoding="utf-8")))
    sys.exit(watch(settings, Strike(event, nth, (signal.SIGKILL,))).code)
