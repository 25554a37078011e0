"""A run by what somebody types: its folder, a part of its id, or a folder around runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from legos.config.saved import FILE, enclosing_run
from legos.config.yaml_files import shown
from legos.errors import CheckpointError
from legos.files import recover_folder
from legos.home import home, homes

_DEPTH = 3  # runs/<data>/<model>/<run id>
_SHOWN = 5  # runs that an error names


def find_run(text: str | Path, *, trained: bool = False) -> Path:
    """The folder of the run that a text means.

    Args:
        text: a run folder or one of its checkpoints; a folder around runs (``runs/shop/naml``,
            ``shop/naml``), which means the newest of them; or the first digits of a run id. A path
            that is not in the working directory is looked for in ``LEGOS_HOME`` and its ``runs``.
        trained: only runs that have a best checkpoint.

    Raises:
        CheckpointError: there is no such run, or several ids begin so.
    """
    for path in dict.fromkeys((Path(text), home() / text, home() / "runs" / text)):
        if path.exists():
            return enclosing_run(path) or _newest(path, trained)
    if "/" in str(text):
        raise CheckpointError(f"{text}: no such run folder{_known()}")
    found = [run for run in all_runs() if run.name.startswith(str(text))]
    if not found:
        raise CheckpointError(f"{text}: neither a folder nor the beginning of a run id{_known()}")
    if len(found) > 1:
        lines = "".join(f"\n  {shown(run)}" for run in found)
        raise CheckpointError(
            f"{text}: {len(found)} run ids start with this; give more digits:{lines}"
        )
    return found[0]


def all_runs() -> list[Path]:
    """Return every run folder at home and in the working directory, newest first."""
    return newest_first(run for folder in homes("runs") for run in runs_below(folder))


def runs_below(folder: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """Run folders below a folder, at most so many levels deep."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.name.startswith("."):  # such as one that is being removed
            continue
        if (path / FILE).is_file():
            yield path
        elif depth > 1:
            yield from runs_below(path, depth - 1)


def newest_first(runs: Iterator[Path]) -> list[Path]:
    """Run folders by when they were last described or finished."""
    return sorted(runs, key=last_change, reverse=True)


def last_change(run: Path) -> float:
    """When a run was started or measured last, in seconds since 1970."""
    files = (run / FILE, run / "results.json")
    return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)


def _newest(folder: Path, trained: bool) -> Path:
    runs = newest_first(runs_below(folder))
    if not runs:
        raise CheckpointError(
            f"{shown(folder)}: neither a run folder nor a folder of runs; expected "
            f"runs/<data>/<model>/<run id>{_known()}"
        )
    whole = [run for run in runs if not trained or _is_trained(run)]
    if not whole:
        raise CheckpointError(
            f"{shown(folder)}: no trained model in its {len(runs)} runs; rerun the "
            f"command that started one to resume; the newest is {shown(runs[0])}"
        )
    return whole[0]


def _is_trained(run: Path) -> bool:
    best = run / "checkpoints" / "best"  # legos.runs.checkpoint would import torch
    recover_folder(best)
    return (best / "state.json").is_file()


def _known() -> str:
    """The tail of an error: the newest runs."""
    runs = all_runs()[:_SHOWN]
    if not runs:
        return f"; no runs in {' or '.join(map(str, homes('runs')))}"
    return "; the newest:" + "".join(f"\n  {shown(run)}" for run in runs)
