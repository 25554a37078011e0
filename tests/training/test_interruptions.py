"""Ctrl-C, SIGTERM and kill in every phase of every system.

An interrupted run ends with exit code 130 and loses no step; the same command, given again, ends
with the bits of a run that was left alone.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from legos.config.schema import RunConfig
from legos.training.trainer import Interruption
from tests.forked import forked
from tests.training.finished import assert_same, finished
from tests.training.systems import MORE, PRESETS, SYSTEMS, into
from tests.training.watched import (
    CHECKPOINTS,
    DESCRIBE,
    RESULTS,
    SCORE,
    STEP,
    STEPPED,
    Strike,
    kill_at,
    watch,
)


@dataclass(frozen=True)
class Whole:
    """A run that was left alone.

    Attributes:
        config: of it.
        events: see :class:`tests.training.watched.Watched`.
        left: see :func:`tests.training.finished.finished`.
    """

    config: RunConfig
    events: tuple[str, ...]
    left: dict[str, Any]

    def at(self, place: int, *signals: signal.Signals) -> Strike:
        """The strike at an event by its place in the run."""
        place %= len(self.events)
        event = self.events[place]
        return Strike(event, self.events[:place].count(event), signals or (signal.SIGINT,))


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Whole]:
    """By the name of a system its run that was left alone."""

    @cache
    def of(name: str) -> Whole:
        root = tmp_path_factory.mktemp(name)
        config = {**SYSTEMS, **MORE}[name](root)
        config = into(config, root / "whole")
        done = watch(config)
        assert done.code == 0
        return Whole(config, tuple(done.events), finished(root / "whole"))

    return of


Phase = Callable[[tuple[str, ...]], int]
"""Of the events of a run the place of the one that is hit."""


def _first(event: str) -> Phase:
    return lambda events: events.index(event)


def _last(event: str) -> Phase:
    return lambda events: len(events) - 1 - events[::-1].index(event)


def _middle(event: str) -> Phase:
    def found(events: tuple[str, ...]) -> int:
        places = [place for place, each in enumerate(events) if each == event]
        return places[len(places) // 2]

    return found


def _validation(number: int) -> Phase:
    """The middle of the n-th validation: of what is scored between two steps or saves."""

    def found(events: tuple[str, ...]) -> int:
        end = _trained(events)
        blocks: list[list[int]] = [[]]
        for place in range(events.index(STEPPED), end):
            if events[place] == SCORE:
                blocks[-1].append(place)
            elif blocks[-1]:
                blocks.append([])
        block = [block for block in blocks if block][number]
        return block[len(block) // 2]

    return found


def _before(place: int, event: str, events: tuple[str, ...]) -> int:
    """The place of the last such event before another place."""
    return place - 1 - events[:place][::-1].index(event)


def _trained(events: tuple[str, ...]) -> int:
    """The place after the last checkpoint."""
    return 1 + max(place for place, event in enumerate(events) if event in CHECKPOINTS)


PHASES: dict[str, Phase] = {
    "at the start": _first(DESCRIBE),
    "in the first step": _first(STEP),
    "after a step": _middle(STEPPED),
    "before the first validation": lambda events: _before(_validation(0)(events), STEPPED, events),
    "in the last step": _last(STEP),
    "in the first validation": _validation(0),
    "in the last validation": _validation(-1),
    "saving last": _first("last"),
    "saving best": _first("best"),
    "saving pretrained": _first("pretrained"),
    "in the last save": lambda events: _trained(events) - 1,
    "between training and test": _first(RESULTS),
    "in the test": _last(SCORE),
    "writing results": _last(RESULTS),
}


MISSING = {(name, "saving pretrained") for name in ("bricks", "recsysllm", "tiger")}
WITHOUT_TEXTS = ("in the last validation", "in the last save", "between training and test")
"""Where ``llm_cf`` can differ from ``cllm4rec``: it validates last of all."""


def _marks(name: str, phase: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.nightly] * (name == "llm_cf" and phase not in WITHOUT_TEXTS)


TABLE = [
    pytest.param(name, phase, id=f"{name}: {phase}", marks=_marks(name, phase))
    for name in SYSTEMS
    for phase in PHASES
    if (name, phase) not in MISSING
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "phase"), TABLE)
def test_ctrl_c_loses_no_step_and_the_resumed_run_ends_with_the_same_bits(
    whole: Callable[[str], Whole], tmp_path: Path, name: str, phase: str
) -> None:
    expected = whole(name)
    _interrupt_and_resume(expected, expected.at(PHASES[phase](expected.events)), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "phase",
    [pytest.param("after a step", marks=pytest.mark.nightly), "in the first validation"],
)
@pytest.mark.parametrize("name", ["bricks", "cllm4rec", "recsysllm", "tiger"])
def test_sigterm_in_training_is_ctrl_c(
    whole: Callable[[str], Whole], tmp_path: Path, name: str, phase: str
) -> None:
    expected = whole(name)
    strike = expected.at(PHASES[phase](expected.events), signal.SIGTERM)
    _interrupt_and_resume(expected, strike, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bricks", "cllm4rec", "recsysllm"])
def test_a_second_ctrl_c_ends_the_step_at_once(
    whole: Callable[[str], Whole], tmp_path: Path, name: str
) -> None:
    expected = whole(name)
    place = _middle(STEPPED)(expected.events)
    strike = expected.at(place, signal.SIGINT, signal.SIGINT)
    config = into(expected.config, tmp_path)
    stopped = watch(config, strike)
    assert stopped.code == 130
    assert stopped.events == list(expected.events[: place + 1])
    assert watch(config).code == 0
    assert_same(finished(tmp_path), expected.left)


def _interrupt_and_resume(expected: Whole, strike: Strike, runs: Path) -> None:
    config = into(expected.config, runs)
    stopped = watch(config, strike)
    assert stopped.code == 130
    resumed = watch(config)
    assert resumed.code == 0
    assert stopped.steps + resumed.steps == expected.events.count(STEPPED)
    assert_same(finished(runs), expected.left)


KILLS = [  # one after the other, each of what the run before has left
    (STEPPED, 2),  # after a checkpoint, before the next
    (SCORE, 1),  # an epoch is not measured yet
    ("best", 0),  # the old one has stepped aside
    ("last", 1),
    (STEP, 1),
    (RESULTS, 0),  # trained, not tested
    (SCORE, 3),  # in the test
    (RESULTS, 0),  # tested
]


KILLED = (
    "bricks",
    "lora",
    "manner",
    "glory",
    "sampled",
    "bert4rec_id",
    "cllm4rec_by_loss",
    "recsysllm",
)
KILL_CHAINS = [
    *(pytest.param(name, [*KILLS[:3], (RESULTS, 0)], id=name) for name in KILLED if name != "lora"),
    *(
        pytest.param(name, KILLS, id=f"{name}, all", marks=pytest.mark.nightly)
        for name in dict.fromkeys((*KILLED, *PRESETS))
    ),
]


@pytest.mark.multiprocess
@pytest.mark.parametrize(("name", "kills"), KILL_CHAINS)
def test_killed_again_and_again_it_ends_with_the_same_bits(
    whole: Callable[[str], Whole], tmp_path: Path, name: str, kills: list[tuple[str, int]]
) -> None:
    expected = whole(name)
    config = into(expected.config, tmp_path / "runs")
    path = tmp_path / "config.json"
    path.write_text(config.model_dump_json())
    for event, nth in kills:
        assert _killed(path, event, nth) == -signal.SIGKILL, (event, nth)
    assert watch(config).code == 0
    assert_same(finished(tmp_path / "runs"), expected.left)


def _killed(config: Path, event: str, nth: int) -> int | None:
    """The exit code of a run in a process of its own, which is killed at an event."""
    process = forked(kill_at, config, event, nth)
    process.join(timeout=120)
    return process.exitcode


def test_the_first_signal_says_what_it_does_and_the_second_interrupts(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with suppress(KeyboardInterrupt), Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.requested
        assert "stopping after this step" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with suppress(KeyboardInterrupt), Interruption(tells=False, launched=True) as interruption:
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
        assert interruption.requested
    assert capfd.readouterr().err == ""


def test_the_message_names_the_signal_that_came(capfd: pytest.CaptureFixture[str]) -> None:
    for number, name in ((signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")):
        with suppress(KeyboardInterrupt), Interruption():
            signal.raise_signal(number)
        assert capfd.readouterr().err == (
            f"\nstopping after this step; press {name} again to stop at once and lose the step\n"
        )
