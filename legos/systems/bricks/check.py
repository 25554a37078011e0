"""What ``--check`` prints of a model of bricks: fields, the first batch, parameters, memory."""

from __future__ import annotations

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from legos.reports.tables import (
    Part,
    counts,
    memory_line,
    parameters_table,
    print_language,
    titled_table,
)
from legos.systems.bricks.system import ranking_cost, training_notices
from legos.terminal import shown_bytes
from legos.training.recipe import Stream
from legos.workplace.workplace import Workplace

_FLOAT = 4  # bytes


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
    vectors = _FLOAT * len(place.store) * config.bricks.hidden_size
    more = f", item vectors of an evaluation {shown_bytes(vectors)}"
    console.print(memory_line(place.accelerator.device, parts, more))
    if config.exp.evaluate.ranking == "all":
        console.print(ranking_cost(place))
    print_language(console, config, place.tables)


def parameters(model: nn.Module) -> list[Part]:
    """Trained and frozen numbers of token vectors, item encoder, user encoder and predictor."""
    counts: dict[str, list[int]] = {"token vectors": [0, 0]}
    counts |= {name.replace("_", " "): [0, 0] for name, _ in model.named_children()}
    for name, parameter in model.named_parameters():
        inside = ".embeddings." in name
        part = "token vectors" if inside else name.split(".")[0].replace("_", " ")
        counts[part][0 if parameter.requires_grad else 1] += parameter.numel()
    return [Part(name, trained, frozen) for name, (trained, frozen) in counts.items()]


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
            *counts(field.size, field.length),
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
