"""Output of ``--check`` for brick models: fields, the first batch, parameters, memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from legos.data.batch import Batch, Rows
from legos.item.language_model import LanguageModelConfig
from legos.lm.footprint import (
    Activations,
    Counted,
    Footprint,
    activations_of,
    counted,
    transformer_run,
    weights_of,
)
from legos.lm.text_model import layers_of
from legos.reports.check import (
    Part,
    counts,
    parameters_table,
    print_language,
    print_memory,
    titled_table,
)
from legos.systems.bricks.system import ranking_cost, training_notices
from legos.terminal import shown_bytes
from legos.training.stream import Stream
from legos.workplace.language import language_model_settings
from legos.workplace.language_facts import texts_of
from legos.workplace.workplace import Workplace

_FLOAT = 4  # bytes


def show_bricks(
    workplace: Workplace, console: Console, new_data: bool, processes: Sequence[int]
) -> None:
    """Print fields and first batch of new data, parameters, memory, language model."""
    config, rows = workplace.config, cache(workplace.training_rows)  # made once, where asked for
    if new_data:
        console.print(_fields(workplace))
        console.print(_batch(workplace, rows()))
        for notice in training_notices(workplace, rows()):
            console.print(notice)
    model = workplace.model(console.print)
    embed = config.embed.name
    name = config.model.name if embed == "null" else f"{config.model.name} + {embed}"
    console.print(parameters_table(name, parameters(model)))
    title = f"memory on {workplace.accelerator.device} of {name}, per device"
    print_memory(console, title, _footprint(workplace, model, rows), processes)
    width = getattr(model.item_encoder, "output_size", config.bricks.hidden_size)
    vectors = _FLOAT * len(workplace.store) * width
    console.print(f"item vectors cached by an evaluation: {shown_bytes(vectors)}")
    if config.exp.evaluate.ranking == "all":
        console.print(ranking_cost(workplace))
    print_language(console, config, workplace.tables)


def parameters(model: nn.Module) -> list[Part]:
    """Count trained and frozen weights of token vectors, item and user encoder and predictor."""
    found: dict[str, list[Counted]] = {"token vectors": []}
    found |= {name.replace("_", " "): [] for name, _ in model.named_children()}
    for each in counted(model):
        inside = ".embeddings." in each.name
        found["token vectors" if inside else each.name.split(".")[0].replace("_", " ")].append(each)
    return [Part.of(name, parameters) for name, parameters in found.items()]


def _fields(workplace: Workplace) -> Table:
    title = f"fields of {workplace.config.data.name}"
    table = titled_table(
        title, "field", "vocabulary", "entries", "length", "tokens per item", "in memory"
    )
    for field in workplace.store.fields.values():
        store = workplace.store
        scalars = {**store.categories, **store.numbers}
        values: Tensor = scalars.get(field.name, torch.empty(0, dtype=torch.long))
        mean = 1.0
        if field.is_text:
            values = store.texts[field.name].values
            mean = values.numel() / max(1, len(store))
        size = values.numel() * values.element_size()
        table.add_row(
            field.name,
            field.vocabulary if field.number is None else f"number, {field.number.treatment}",
            *counts(field.size, field.length),
            f"{mean:.1f}",
            shown_bytes(size),
        )
    return table


def _first_batch(workplace: Workplace, rows: Rows, processes: int = 1) -> tuple[Stream, Batch]:
    """The stream of all steps, and the part of the first batch that one process reads."""
    train = workplace.config.exp.train
    stream = Stream(
        num_rows=rows.units,
        batch_size=rows.units_of(train.batch_size),
        acc_batch=train.acc_batch,
        epoch_batch=train.epoch_batch,
        seed=train.seed,
    )
    first = stream.rows(0).micro_batches[0]
    part = first[: -(-len(first) // processes)].to(rows.impressions.device)
    return stream, rows.batch(part, pass_number=0)


def _batch(workplace: Workplace, rows: Rows) -> Table:
    train = workplace.config.exp.train
    stream, batch = _first_batch(workplace, rows)
    items = workplace.store.batch(batch.items)
    table = titled_table("the first batch", "content", "shape")
    shared = "B" if batch.reads is None and batch.blanks is None else "S"
    table.add_row("distinct items (N)", f"({batch.items.numel()})")
    table.add_row(f"history ({shared}, H)", str(tuple(batch.history.shape)))
    table.add_row("candidates (B, 1+K)", str(tuple(batch.candidates.shape)))
    if batch.drawn.shared is not None:
        table.add_row("shared negatives (K)", str(tuple(batch.drawn.shared.shape)))
    table.add_row("item vectors (N, D)", f"({len(items)}, {workplace.config.bricks.hidden_size})")
    for name, tokens in items.texts.items():
        table.add_row(f"tokens of {name} (P)", f"({tokens.values.numel()})")
    table.add_row("training rows", f"{len(rows):,}")
    table.add_row("steps per epoch", f"{stream.steps_per_epoch:,} (at most {train.epochs} epochs)")
    return table


def _footprint(workplace: Workplace, model: nn.Module, rows: Callable[[], Rows]) -> Footprint:
    """The memory of a model; activations are those of its language model."""
    inside = [each for each in model.modules() if getattr(each, "is_language_model", False)]
    settings = language_model_settings(workplace.config.model)
    known = workplace.language_model
    if not (inside and known and isinstance(settings, LanguageModelConfig)):
        return Footprint(weights_of(model, []), lambda processes: None, shards=False)
    lengths = texts_of(workplace.config, workplace.tables, settings, known).lengths
    page = workplace.config.exp.train.item_page_size
    autocast = workplace.config.exp.precision != "fp32"

    def activations(processes: int) -> Activations | None:
        items = _first_batch(workplace, rows(), processes)[1].items.cpu()
        count, width = min(len(items), page or len(items)), math.ceil(lengths[items].float().mean())
        return activations_of(inside[0], transformer_run(count, max(1, width)), autocast=autocast)

    weights = weights_of(model, layers_of(inside[0]))
    return Footprint(weights, activations, shards=not page)
