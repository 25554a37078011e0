"""Runs the parts, each in a process of its own, within a budget of seconds.

A failed assertion on a GPU, memory that runs out or a crash end the process of their part alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from benchmarks.gpu.dire import cache_part, dire_part
from benchmarks.gpu.equality import equality_part
from benchmarks.gpu.generation import generation_part
from benchmarks.gpu.lora import lora_part
from benchmarks.gpu.outcome import Outcome, Row, Tell, reason_of
from benchmarks.gpu.roofline import roofline_part
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.shipped import models_part
from benchmarks.gpu.steps import steps_part

PARTS: Mapping[str, Callable[[Setting, Tell], None]] = {
    "roofline": roofline_part,
    "equal": equality_part,
    "dire": dire_part,
    "cache": cache_part,
    "steps": steps_part,
    "lora": lora_part,
    "generate": generation_part,
    "models": models_part,
}
ROOT = Path(__file__).resolve().parents[2]
_ROWS = "rows.jsonl"


def measure(part: str, setting: Setting, tell: Tell) -> None:
    """Run one part in this process; an error becomes its last row."""
    try:
        PARTS[part](setting, tell)
    except Exception as error:
        tell(Row(part, reason=reason_of(error), holds=False, trace=traceback.format_exc()))


def measure_into(part: str, setting: Setting, file: Path) -> None:
    """One part in this process, every row written to a file at once."""
    with file.open("a", encoding="utf-8") as rows:

        def tell(row: Row) -> None:
            rows.write(json.dumps(asdict(row)) + "\n")
            rows.flush()

        measure(part, setting, tell)


def run_parts(
    parts: Iterable[str], options: list[str], budget: float, say: Callable[[str], None]
) -> dict[str, Outcome]:
    """Every part in a process of its own, one after the other.

    Args:
        parts: names.
        options: of the command line, for these processes.
        budget: seconds of all of them; a part that runs when it is spent is stopped.
        say: told before and after each.

    Returns:
        By part what came of it; a Ctrl-C ends the part under way and starts no other.
    """
    begin, found = time.monotonic(), dict[str, Outcome]()
    stopped = ""
    for part in parts:
        left = budget - (time.monotonic() - begin)
        if left <= 0 and not stopped:
            stopped = f"the budget of {budget:g} s was spent; name it after --only"
        if stopped:
            found[part] = Outcome(reason=stopped, reached=False)
            continue
        say(f"{part} ...")
        try:
            found[part] = run_part(part, options, left)
        except KeyboardInterrupt:
            stopped = "interrupted"
            found[part] = Outcome(reason=stopped)
            continue
        end = "failed" if found[part].failures else "done"
        say(f"{part} {end}, {found[part].seconds:.0f} s")
    return found


def run_part(part: str, options: list[str], seconds: float) -> Outcome:
    """Run one part in a process of its own and stop it after a time limit."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / _ROWS
        command = [sys.executable, "-m", "benchmarks.gpu", *options, "--alone", part, str(file)]
        reason = ""
        try:
            code = subprocess.run(command, cwd=ROOT, check=False, timeout=seconds).returncode
            if code:
                reason = _ended(code)
        except subprocess.TimeoutExpired:
            reason = f"stopped after {seconds:.0f} s: the budget was spent"
        rows = read_rows(file)
    if not rows and not reason:
        reason = "it measured nothing"
    return Outcome(tuple(rows), time.monotonic() - begin, reason)


def read_rows(file: Path) -> list[Row]:
    """The rows that a part wrote; a last one that is not whole is left out."""
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8").split("\n")[:-1]
    return [Row(**json.loads(line)) for line in lines]


def _ended(code: int) -> str:
    if code == -9:
        return "its process was killed (signal 9): the machine may have run out of memory"
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"its process ended with {how}; what it printed says why"
