"""What the parts found: rows, what failed and why, one table, one JSON."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich import box
from rich.table import Table
from rich.text import Text

from benchmarks.report import Part, finish_parts
from legos.errors import describe_memory_error

_LONGEST = 300  # characters of a reason


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        what: was measured.
        value: ours.
        unit: of both sides: "s", "tokens/s", "TFLOP/s"; "": a share.
        against: the other side, in words.
        other: its value.
        ratio: how they compare.
        target: what is to be reached, in words.
        holds: whether it is; None: nothing is promised of it on this device.
        note: memory, spread, what else there is to say.
        reason: why there is no value.
        trace: of the error, for the JSON alone.
    """

    what: str
    value: float | None = None
    unit: str = ""
    against: str = ""
    other: float | None = None
    ratio: float | None = None
    target: str = ""
    holds: bool | None = None
    note: str = ""
    reason: str = ""
    trace: str = ""

    def __post_init__(self) -> None:
        """ValueError: a number that is not finite, which no JSON could hold."""
        for name in ("value", "other", "ratio"):
            found = getattr(self, name)
            if found is not None and not math.isfinite(found):
                raise ValueError(f"{name} is {found}: not finite")


Tell = Callable[[Row], None]
"""Takes a row as soon as it is measured, so that nothing is lost when a process dies."""


@dataclass(frozen=True)
class Outcome:
    """What came of a part.

    Attributes:
        rows: in the order they were measured, failed ones among them.
        seconds: the part took.
        reason: why it ended before its end; "": it did not.
        reached: whether it was started at all.
    """

    rows: tuple[Row, ...] = ()
    seconds: float = 0.0
    reason: str = ""
    reached: bool = True

    @property
    def failures(self) -> list[tuple[str, str]]:
        """What failed, and why; what misses its target, and by how much."""
        found = [(row.what, row.reason) for row in self.rows if row.reason]
        found += [
            (row.what, f"misses its target {row.target} ({shown(row)})")
            for row in self.rows
            if row.holds is False and not row.reason
        ]
        return found + ([("", self.reason)] if self.reason else [])


@contextmanager
def trying(tell: Tell, what: str, device: torch.device) -> Iterator[None]:
    """A block whose failure becomes a row and stops nothing else.

    Raises:
        RuntimeError: the device does not answer any more, so that what follows would fail, too.
    """
    try:
        yield
    except Exception as error:
        tell(Row(what, reason=reason_of(error), holds=False, trace=traceback.format_exc()))
        traceback.clear_frames(error.__traceback__)  # their tensors would stay on the device
    else:
        return
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # raises after a failed assertion on the device
        torch.cuda.empty_cache()


def reason_of(error: BaseException) -> str:
    """One line of an error."""
    memory = describe_memory_error(error)
    if memory is not None:
        return memory.partition(";")[0]
    text = " ".join(str(error).split())
    name = type(error).__name__
    text = f"{name}: {text}" if text else name
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."


def number(value: float | None) -> str:
    """Three digits, thousands with commas."""
    if value is None:
        return ""
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.1e}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def shown(row: Row) -> str:
    """A row's value with its unit."""
    return f"{number(row.value)} {row.unit}".strip()


def table_of(outcomes: Mapping[str, Outcome], *, markdown: bool) -> Table:
    """Every row of every part; ``markdown``: a table to paste into a page."""
    table = Table(box=box.MARKDOWN if markdown else box.SIMPLE_HEAD)
    for name in ("part", "what", "measured", "against", "ratio", "target", "", "note"):
        right = name in ("measured", "ratio")
        table.add_column(name, justify="right" if right else "left", no_wrap=markdown)
    for part, outcome in outcomes.items():
        for row in outcome.rows:
            verdict = {True: "holds", False: "MISSED", None: ""}[row.holds]
            other = "" if row.other is None else f" {number(row.other)} {row.unit}"
            cells = (
                part, row.what, shown(row), (row.against + other).strip(), number(row.ratio),
                row.target, "FAILED" if row.reason else verdict, row.note,
            )  # fmt: skip
            table.add_row(*(Text(cell) for cell in cells))
        if not outcome.rows:
            text = "FAILED" if outcome.reached else "not reached"
            table.add_row(*(Text(cell) for cell in (part, "", "", "", "", "", text, "")))
    return table


def failure_lines(outcomes: Mapping[str, Outcome]) -> list[str]:
    """A line for all that failed, missed its target or was not reached."""
    lines = []
    for part, outcome in outcomes.items():
        if not outcome.reached:
            lines.append(f"not reached: {part}: {outcome.reason}")
            continue
        lines += [
            f"FAILED: {part}: {what}: {why}" if what else f"FAILED: {part}: {why}"
            for what, why in outcome.failures
        ]
    return lines


def whole(outcomes: Mapping[str, Outcome]) -> bool:
    """Whether every part ran to its end and everything that is judged holds."""
    return not any(outcome.failures or not outcome.reached for outcome in outcomes.values())


def as_json(facts: Mapping[str, Any], outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """Everything, for a file."""
    return {
        **facts,
        "holds": whole(outcomes),
        "failed": failure_lines(outcomes),
        "parts": {
            part: {
                "reached": outcome.reached,
                "reason": outcome.reason,
                "seconds": round(outcome.seconds, 3),
                "rows": [asdict(row) for row in outcome.rows],
            }
            for part, outcome in outcomes.items()
        },
    }


def last_line(outcomes: Mapping[str, Outcome]) -> None:
    """Print the line that every benchmark ends with."""

    def column(rows: Sequence[Row], name: str) -> dict[str, Any]:
        return {row.what: getattr(row, name) for row in rows if getattr(row, name) is not None}

    parts, targets = {}, {}
    for name, each in outcomes.items():
        ours, other, ratio = (column(each.rows, key) for key in ("value", "other", "ratio"))
        parts[name] = Part(ours, other, ratio, not each.failures and each.reached)
        targets[name] = {row.what: row.target for row in each.rows if row.target}
    finish_parts("gpu", parts, targets)
