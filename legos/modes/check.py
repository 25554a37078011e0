"""``worker.py --check``: what a run would read, build and need; nothing is trained or written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pkgutil import resolve_name
from typing import Any

from rich.console import Console
from rich.table import Table

from legos.config.data_schema import DataConfig
from legos.config.load import load_trial
from legos.config.model_schema import registered_system
from legos.config.refusals import check_tables
from legos.config.schema import RunConfig
from legos.config.search_schema import SearchConfig
from legos.data.tables import Tables
from legos.progress import PlainConsole
from legos.reports.check import counts, print_language, titled_table
from legos.runs.folder import run_folder
from legos.runs.identity import models_not_here
from legos.workplace.device import make_accelerator
from legos.workplace.workplace import Workplace


def check(
    config: RunConfig,
    console: Console | None = None,
    *,
    words: Sequence[str] = (),
    processes: int | None = None,
) -> None:
    """Print the resolved configuration and, where there are tables, shapes and memory.

    Nothing is printed before everything is checked, so an error is the only output.

    Args:
        config: what would run.
        console: to print to.
        words: the command line that ``config`` was loaded from; mode search needs it.
        processes: memory is told for so many, beside one; None: those that were started.

    Raises:
        LegosError: the configuration does not fit the tables, or the bricks do not fit together.
    """
    console = console or PlainConsole(soft_wrap=True)
    with console.capture() as checked:
        _check(config, console, words, processes)
    console.file.write(checked.get())


def _check(
    config: RunConfig, console: Console, words: Sequence[str], processes: int | None
) -> None:
    console.print(_settings(config.model_dump(mode="json")))
    if not config.data.folder.exists():
        console.print(
            f"\n{config.data.folder}: no tables yet, so shapes and memory are unknown; the comment "
            "at the top of the data YAML gives the command that makes them"
        )
        print_language(console, config, None)
        return
    tables = Tables.load(config.data.folder)
    check_tables(config, tables.manifest)
    accelerator = make_accelerator(
        device=config.exp.device,
        precision=config.exp.precision,
        deterministic=config.exp.deterministic,
    )
    console.print(_splits(tables))
    if config.exp.mode == "search" and config.exp.search is not None:
        config = _shown_search(config, config.exp.search, words, tables, console)
    numbers = sorted({1, processes or accelerator.num_processes})
    seen: set[tuple[str, str]] = set()
    read: list[tuple[str, DataConfig]] = []
    for member in config.runs():
        if (member.model.name, member.embed.name) in seen:
            continue
        seen.add((member.model.name, member.embed.name))
        workplace = Workplace.open(member, accelerator, tables, shapes_only=True)
        kind = (member.model.system, member.data)
        show = resolve_name(registered_system(member.model.system).shows)
        show(workplace, console, kind not in read, numbers)
        read.append(kind)
        absent = models_not_here(member)
        if absent:
            console.print(
                f"run folder: unknown until the language model is available ({', '.join(absent)})"
            )
            continue
        folder = run_folder(member, tables)
        console.print(f"run folder: {folder.path} ({_state(folder.results())})")


def _shown_search(
    config: RunConfig, search: SearchConfig, words: Sequence[str], tables: Tables, console: Console
) -> RunConfig:
    """Print the ranges of a search; return its largest trial, whose shapes are shown next."""
    table = titled_table(f"{search.trials} trials", "key", "range")
    for key, each in search.ranges.items():
        table.add_row(key, str(each))
    console.print(table)
    train, labels = config.exp.train, tables.lists(config.data.splits.train, "labels")
    largest = load_trial(words, {key: each.ends[-1] for key, each in search.ranges.items()})
    pruned = " or below the median of the others" if search.prune else ""
    console.print(
        f"one trial: {int((labels.values == 1).sum()):,} clicks per epoch; early stopping on valid "
        f"{train.metric}{pruned}. At the upper limits:"
    )
    return largest


def _settings(resolved: Mapping[str, Any]) -> Table:
    table = titled_table("settings", "key", "value")
    for key, value in _flat(resolved):
        table.add_row(key, value if isinstance(value, str) else json.dumps(value))
    return table


def _flat(value: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """``a.b.c`` and value of every leaf, as a dotted override would name it."""
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from _flat(below, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, below in enumerate(value):
            yield from _flat(below, f"{prefix}.{index}")
    else:
        yield prefix, value


def _splits(tables: Tables) -> Table:
    title = f"{tables.name}: {tables.num_items:,} items, {tables.num_users:,} users"
    table = titled_table(title, "split", "impressions", "candidates", "clicks")
    for split in tables.splits:
        labels = tables.lists(split, "labels")
        clicks = int((labels.values == 1).sum())
        table.add_row(split, *counts(len(labels), labels.values.numel(), clicks))
    return table


def _state(results: Mapping[str, Any] | None) -> str:
    return "not finished" if results is None else "finished"
