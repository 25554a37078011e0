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


def show_bricks(workplace: Workplace, console: Console, new_data: bool) -> None:
    """Print fields and first batch of new data, parameters, memory, language model."""
    config = workplace.config
    if new_data:
        console.print(_fields(workplace))
        console.print(_batch(workplace))
        for notice in training_notices(workplace, workplace.training_rows()):
            console.print(notice)
    parts = parameters(workplace.model(console.print))
    console.print(parameters_table(f"{config.model.name} + {config.embed.name}", parts))
    vectors = _FLOAT * len(workplace.store) * config.bricks.hidden_size
    more = f", item vectors of an evaluation {shown_bytes(vectors)}"
    console.print(memory_line(workplace.accelerator.device, parts, more))
    if config.exp.evaluate.ranking == "all":
        console.print(ranking_cost(workplace))
    print_language(console, config, workplace.tables)


def parameters(model: nn.Module) -> list[Part]:
    """Trained and frozen numbers of token vectors, item encoder, user encoder and predictor."""
    counts: dict[str, list[int]] = {"token vectors": [0, 0]}
    counts |= {name.replace("_", " "): [0, 0] for name, _ in model.named_children()}
    for name, parameter in model.named_parameters():
        inside = ".embeddings." in name
        part = "token vectors" if inside else name.split(".")[0].replace("_", " ")
        counts[part][0 if parameter.requires_grad else 1] += parameter.numel()
    return [Part(name, trained, frozen) for name, (trained, frozen) in counts.items()]


def _fields(workplace: Workplace) -> Table:
    title = f"fields of {workplace.config.data.name}"
    table = titled_table(
        title, "field", "vocabulary", "entries", "length", "tokens an item", "in memory"
    )
    for field in workplace.store.fields.values():
        values: Tensor = workplace.store.categories.get(
            field.name, torch.empty(0, dtype=torch.long)
        )
        mean = 1.0
        if field.is_text:
            values = workplace.store.texts[field.name].values
            mean = values.numel() / max(1, len(workplace.store))
        size = values.numel() * values.element_size()
        table.add_row(
            field.name,
            field.vocabulary,
            *counts(field.size, field.length),
            f"{mean:.1f}",
            shown_bytes(size),
        )
    return table


def _batch(workplace: Workplace) -> Table:
    train = workplace.config.exp.train
    rows = workplace.training_rows()
    stream = Stream(
        num_rows=len(rows),
        batch_size=train.batch_size * workplace.accelerator.num_processes,
        acc_batch=train.acc_batch,
        epoch_batch=train.epoch_batch,
        seed=train.seed,
    )
    first = stream.rows(0).micro_batches[0].to(rows.impressions.device)
    batch = rows.batch(first, pass_number=0)
    items = workplace.store.batch(batch.items)
    table = titled_table("the first batch", "what", "shape")
    table.add_row("distinct items (N)", f"({batch.items.numel()})")
    table.add_row("history (B, H)", str(tuple(batch.history.shape)))
    table.add_row("candidates (B, 1+K)", str(tuple(batch.candidates.shape)))
    table.add_row("item vectors (N, D)", f"({len(items)}, {workplace.config.bricks.hidden_size})")
    for name, tokens in items.texts.items():
        table.add_row(f"tokens of {name} (P)", f"({tokens.values.numel()})")
    table.add_row("training rows", f"{len(rows):,}")
    table.add_row("steps an epoch", f"{stream.steps_per_epoch:,} (at most {train.epochs} epochs)")
    return table
