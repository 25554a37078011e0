"""The progress bar of a run: answers, rate, cost, failures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from legos.console import PlainConsole
from process.genre.types import Summary


@contextmanager
def answer_bar(description: str, *, total: int) -> Iterator[Callable[[Summary], None]]:
    """Yield what :func:`process.genre.run.run` wants as ``on_progress``; nothing off a terminal.

    Args:
        description: what is going on.
        total: requests.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,}/{task.total:,}"),
        TextColumn("{task.fields[facts]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = PlainConsole(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(description, total=max(total, 1), facts="")

        def show(state: Summary) -> None:
            progress.update(task, completed=finished(state), facts=facts(state))

        yield show


def finished(state: Summary) -> int:
    """Requests that this run need not look at any more."""
    return state.already + state.refused + state.answered + state.quarantined + state.failed


def facts(state: Summary) -> str:
    """What stands beside the bar: ``12.3/s · cost 0.0021 · 1 invalid · 2 failed``."""
    done = finished(state) - state.already - state.refused
    parts = [f"{done / state.seconds:.1f}/s" if state.seconds > 0 else "-/s"]
    if state.cost:
        parts.append(f"cost {state.cost:.4f}")
    parts += [f"{state.quarantined} invalid", f"{state.failed} failed"]
    return " · ".join(parts)
