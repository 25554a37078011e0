"""``worker.py --check``: what a run would read, build and need; nothing is trained or written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from legos.config import resolved_dict
from legos.config.check import check_tables
from legos.config.comparison import comparison_runs
from legos.config.data_schema import DataConfig
from legos.config.schema import RunConfig
from legos.console import PlainConsole
from legos.data.tables import Tables
from legos.runs.place import run_folder
from legos.runs.sources import models_not_here
from legos.systems.bricks.notices import ranking_cost, training_notices
from legos.systems.protocol import show_system
from legos.terminal import shown_bytes
from legos.training.stream import Stream
from legos.workplace.device import make_accelerator
from legos.workplace.language_facts import TRAINED, language_rows, language_table
from legos.workplace.workplace import Workplace

_FLOAT = 4  # bytes
_MOMENTS = 2  # that Adam keeps of each trained parameter


@dataclass(frozen=True)
class Part:
    """Parameters of one part of a model.

    Attributes:
        name: of the part.
        trained: numbers that training changes.
        frozen: numbers that it does not.
    """

    name: str
    trained: int
    frozen: int


def check(config: RunConfig, console: Console | None = None) -> None:
    """Print the resolved configuration and, where there are tables, shapes and memory.

    Raises:
        LegosError: the configuration does not fit the tables, or the bricks do not fit together.
    """
    console = console or PlainConsole(soft_wrap=True)
    console.print(_settings(resolved_dict(config)))
    if not (config.data.folder / "manifest.json").is_file():
        console.print(
            f"\n{config.data.folder}: no tables yet, so shapes and memory are unknown; the head of "
            "the data YAML says which command makes them"
        )
        _print_language(console, config, None)
        return
    tables = Tables.load(config.data.folder)
    check_tables(config, tables.manifest)
    accelerator = make_accelerator(
        device=config.exp.device,
        precision=config.exp.precision,
        deterministic=config.exp.deterministic,
    )
    console.print(_splits(tables))
    seen: set[tuple[str, str]] = set()
    read: list[tuple[str, DataConfig]] = []
    for member in comparison_runs(config):
        if (member.model.name, member.embed.name) in seen:
            continue
        seen.add((member.model.name, member.embed.name))
        place = Workplace.open(member, accelerator, tables, shapes_only=True)
        kind = (member.model.system, member.data)
        show_system(place, console, kind not in read)
        read.append(kind)
        absent = models_not_here(member)
        if absent:
            console.print(
                f"run folder: known once the language model is here ({', '.join(absent)})"
            )
            continue
        folder = run_folder(member, tables)
        console.print(f"run folder: {folder.path} ({_state(folder.results())})")


def show_bricks(place: Workplace, console: Console, new_data: bool) -> None:
    """Print fields and first batch of new data, parameters, memory, language model."""
    config = place.config
    if new_data:
        console.print(_fields(place))
        console.print(_batch(place))
        for notice in training_notices(place, place.training_rows()):
            console.print(notice)
    parts = parameters(place.model(console.print))
    console.print(parameters_table(f"{config.model.name} + {config.embed.name}", parts))
    console.print(_memory(place, parts))
    if config.exp.evaluate.ranking == "all":
        console.print(ranking_cost(place))
    _print_language(console, config, place.tables)


def _print_language(console: Console, config: RunConfig, tables: Tables | None) -> None:
    rows = language_rows(config, tables)
    if rows:
        told = [row for row in rows if row[0] != TRAINED]
        console.print(language_table(told, titled_table("language model", "what", "how much")))
    for name, text in rows:
        if name == TRAINED:  # in one line, which no table folds
            console.print(f"{name}: {text}")


def parameters(model: nn.Module) -> list[Part]:
    """Trained and frozen numbers of token vectors, item encoder, user encoder and predictor."""
    counts: dict[str, list[int]] = {"token vectors": [0, 0]}
    counts |= {name.replace("_", " "): [0, 0] for name, _ in model.named_children()}
    for name, parameter in model.named_parameters():
        inside = ".embeddings." in name
        part = "token vectors" if inside else name.split(".")[0].replace("_", " ")
        counts[part][0 if parameter.requires_grad else 1] += parameter.numel()
    return [Part(name, trained, frozen) for name, (trained, frozen) in counts.items()]


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
        table.add_row(split, *_counts(len(labels), labels.values.numel(), clicks))
    return table


def _fields(place: Workplace) -> Table:
    title = f"fields of {place.config.data.name}"
    table = titled_table(
        title, "field", "vocabulary", "entries", "length", "tokens an item", "in memory"
    )
    for field in place.store.fields.values():
        values: Tensor = place.store.categories.get(field.name, torch.empty(0, dtype=torch.long))
        mean = 1.0
        if field.is_text:
            values = place.store.texts[field.name].values
            mean = values.numel() / max(1, len(place.store))
        size = values.numel() * values.element_size()
        table.add_row(
            field.name,
            field.vocabulary,
            *_counts(field.size, field.length),
            f"{mean:.1f}",
            shown_bytes(size),
        )
    return table


def _batch(place: Workplace) -> Table:
    train = place.config.exp.train
    rows = place.training_rows()
    stream = Stream(
        num_rows=len(rows),
        batch_size=train.batch_size * place.accelerator.num_processes,
        acc_batch=train.acc_batch,
        epoch_batch=train.epoch_batch,
        seed=train.seed,
    )
    first = stream.rows(0).micro_batches[0].to(rows.impressions.device)
    batch = rows.batch(first, pass_number=0)
    items = place.store.batch(batch.items)
    table = titled_table("the first batch", "what", "shape")
    table.add_row("distinct items (N)", f"({batch.items.numel()})")
    table.add_row("history (B, H)", str(tuple(batch.history.shape)))
    table.add_row("candidates (B, 1+K)", str(tuple(batch.candidates.shape)))
    table.add_row("item vectors (N, D)", f"({len(items)}, {place.config.bricks.hidden_size})")
    for name, tokens in items.texts.items():
        table.add_row(f"tokens of {name} (P)", f"({tokens.values.numel()})")
    table.add_row("training rows", f"{len(rows):,}")
    table.add_row("steps an epoch", f"{stream.steps_per_epoch:,} (at most {train.epochs} epochs)")
    return table


def parameters_table(title: str, parts: list[Part]) -> Table:
    """A line for each part and one for all."""
    table = titled_table(title, "part", "trained", "frozen", "weights")
    whole = Part("all", sum(part.trained for part in parts), sum(part.frozen for part in parts))
    for part in (*parts, whole):
        size = _FLOAT * (part.trained + part.frozen)
        table.add_row(part.name, *_counts(part.trained, part.frozen), shown_bytes(size))
    return table


def _memory(place: Workplace, parts: list[Part]) -> str:
    """What stays in memory for a whole run; activations of a step come on top."""
    trained = _FLOAT * sum(part.trained for part in parts)
    weights = trained + _FLOAT * sum(part.frozen for part in parts)
    vectors = _FLOAT * len(place.store) * place.config.bricks.hidden_size
    return (
        f"memory on {place.accelerator.device}: weights {shown_bytes(weights)}, gradients "
        f"{shown_bytes(trained)}, optimizer {shown_bytes(_MOMENTS * trained)}, item "
        f"vectors of an evaluation {shown_bytes(vectors)}; activations of a step come on top"
    )


def _state(results: Mapping[str, Any] | None) -> str:
    return "not finished" if results is None else "finished"


def titled_table(title: str, *columns: str) -> Table:
    """An empty table with a headline; columns of numbers stand on the right."""
    title = f"\n{title}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        right = column in ("impressions", "candidates", "clicks", "entries", "length")
        right = right or column in ("tokens an item", "trained", "frozen", "weights", "in memory")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table


def _counts(*numbers: int) -> list[str]:
    return [f"{number:,}" for number in numbers]
