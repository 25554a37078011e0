"""Kills at random moments: every long command, begun again each time, must end as if left alone.

``python -m tests.random_kills --kills 200 --seed 1`` prints a line a chain and a table at the end.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import math
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file

from tests.forked import forked
from tests.long_commands import ANSWERS, COMMANDS, Command, perform, ready
from tests.training.finished import steady

IN_A_ROW = 4
_TIMED = (".db", ".html", ".md", ".png", ".svg", "lock", "log.txt")
"""Ends of files whose contents tell when, how long or by which process."""


@dataclass
class Tally:
    """What became of one command.

    Attributes:
        seconds: of the command left alone, the least that it took.
        kills: that hit it.
        chains: how often it was brought to its end, killed on the way or not.
        faults: what was otherwise than in the command left alone.
    """

    seconds: float = 0.0
    kills: int = 0
    chains: int = 0
    faults: list[str] = field(default_factory=list)

    def row(self, name: str) -> str:
        """A line of the table."""
        equal = "no" if self.faults else "yes"
        return f"{name:24} {self.seconds:8.1f} {self.kills:6} {self.chains:6}  {equal}"


class Trial:
    """One command, its inputs, and what it left when nothing disturbed it.

    Args:
        make: writes the inputs into a folder; see ``COMMANDS``.
        place: an empty folder.
        stack: closes what the command needs.
    """

    def __init__(
        self, make: Callable[[Path, ExitStack], Sequence[str]], place: Path, stack: ExitStack
    ) -> None:
        self._folder, self._inputs = place / "work", place / "inputs"
        self._printed = place / "printed"
        self._folder.mkdir()
        with redirect_stdout(io.StringIO()):
            self._command = Command(make(self._folder, stack), self._folder)
        shutil.copytree(self._folder, self._inputs)
        forked(ready).join()  # the server is there
        begin = time.perf_counter()
        code = self._start(None)
        self.tally = Tally(time.perf_counter() - begin)
        if code:
            self.tally.faults.append(f"left alone, exit code {code}: {self._said()}")
        self._expected = left_in(self._folder)

    def chain(self, draw: random.Random, most: int) -> int:
        """Begin anew, kill up to ``most`` times, go on to the end and compare.

        Returns:
            Kills that hit.
        """
        shutil.rmtree(self._folder)
        shutil.copytree(self._inputs, self._folder)
        self._printed.unlink()
        moments: list[float] = []
        code: int | None = -signal.SIGKILL
        while code == -signal.SIGKILL:
            moment = None if len(moments) == most else draw.uniform(0, self.tally.seconds)
            begin = time.perf_counter()
            code = self._start(moment)
            if code == -signal.SIGKILL and moment is not None:
                moments.append(moment)
        if not moments:  # the machine is less busy than it was: aim at what it takes now
            self.tally.seconds = min(self.tally.seconds, time.perf_counter() - begin)
        self.tally.kills += len(moments)
        self.tally.chains += 1
        fault = self._said() if code else ""
        fault = fault or difference(left_in(self._folder), self._expected)
        if fault:
            after = ", ".join(f"{moment:.2f}" for moment in moments)
            self.tally.faults.append(f"killed after {after} s, exit code {code}: {fault}")
        return len(moments)

    def _said(self) -> str:
        return self._printed.read_text(encoding="utf-8")[-800:]

    def _start(self, moment: float | None) -> int | None:
        """Do the command, killed after ``moment`` seconds; its exit code."""
        process = forked(perform, self._command, self._printed)
        process.join(moment)
        if process.is_alive():
            process.kill()
        process.join()
        return process.exitcode


def left_in(folder: Path) -> dict[str, Any]:
    """By its path below the folder what each file holds, but for times; folders hold nothing."""
    return {
        path.relative_to(folder).as_posix(): _content(path)
        for path in sorted(folder.rglob("*"))
        if path.parent.name != "events"  # TensorBoard names its files by time and process
    }


def _content(path: Path) -> Any:
    if path.is_dir() or path.name.endswith(_TIMED):
        return None
    if path.suffix == ".safetensors":
        flat = {key: tensor.reshape(-1) for key, tensor in load_file(path).items()}
        return {key: row.view(torch.uint8).numpy().tobytes() for key, row in flat.items()}
    if path.suffix == ".json":
        return steady(json.loads(path.read_text()))
    if path.suffix != ".jsonl":
        return path.read_bytes()
    lines = [steady(json.loads(line)) for line in path.read_text().splitlines()]
    if path.parent.name == ANSWERS:  # several at once: they come in any order
        lines.sort(key=lambda line: line["hash"])
        return [{key: value for key, value in line.items() if key != "time"} for line in lines]
    return lines


def difference(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """What is otherwise, in words; nothing if all is as expected."""
    told = [f"left over: {name}" for name in found if name not in expected]
    told += [f"missing: {name}" for name in expected if name not in found]
    both = [name for name in expected if name in found]
    told += [f"differs: {name}" for name in both if found[name] != expected[name]]
    return "; ".join(told)


def killed_at_random(
    names: Sequence[str],
    *,
    kills: int,
    seed: int,
    place: Path,
    minutes: float = math.inf,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Tally]:
    """Take turns at the commands until so many kills have hit.

    Args:
        names: of ``COMMANDS``.
        kills: in all.
        seed: of the moments, which are uniform over the time that the command takes left alone.
        place: an empty folder.
        minutes: no chain begins later.
        tell: gets a line a chain.
    """
    draw, done, end = random.Random(seed), 0, time.monotonic() + 60 * minutes
    trials = dict[str, Trial]()
    with ExitStack() as stack:
        for name in itertools.cycle(names):
            if name not in trials:
                (place / str(len(trials))).mkdir()
                trials[name] = Trial(COMMANDS[name], place / str(len(trials)), stack)
            trial = trials[name]
            done += trial.chain(draw, min(IN_A_ROW, kills - done))
            tell("; ".join([trial.tally.row(name), *trial.tally.faults[-1:]]))
            if done == kills or time.monotonic() > end:
                break
    return {name: trial.tally for name, trial in trials.items()}


def main() -> int:
    """Exit code 1 if something was otherwise than in a command left alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    given = parser.parse_args()
    begin = time.perf_counter()

    def tell(line: str) -> None:
        print(f"{time.perf_counter() - begin:6.0f} s  {line}", flush=True)

    with TemporaryDirectory() as folder:
        found = killed_at_random(
            given.only,
            kills=given.kills,
            seed=given.seed,
            minutes=given.minutes,
            place=Path(folder),
            tell=tell,
        )
    print(f"\n{'command':24} {'seconds':>8} {'kills':>6} {'ended':>6}  equal")
    print("\n".join(tally.row(name) for name, tally in found.items()))
    sums = [sum(getattr(tally, key) for tally in found.values()) for key in ("kills", "chains")]
    print(f"{'all':33} {sums[0]:6} {sums[1]:6}  in {time.perf_counter() - begin:.0f} s")
    faults = [f"{name}: {fault}" for name, tally in found.items() for fault in tally.faults]
    print("\n".join(faults))
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
