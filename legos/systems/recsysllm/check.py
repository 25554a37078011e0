"""Output of ``--check`` for RecSysLLM: data, entities, parameters, prompts; reads no weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from rich.console import Console
from torch import Tensor, nn

from legos.config.exp_schema import ExpConfig
from legos.config.train_schema import TrainConfig
from legos.data.tables import Tables
from legos.lm.footprint import (
    Activations,
    Footprint,
    Run,
    activations_of,
    counted,
    score_bytes,
    transformer_run,
    weights_of,
)
from legos.lm.load import LanguageModel
from legos.lm.text_model import layers_of
from legos.lm.word_model import MAX_LOGITS, audit_word_model
from legos.reports.check import Part, print_backbone, print_memory, print_read, titled_table
from legos.systems.recsysllm.backbones.decoder import Backbone, build_backbone, open_language
from legos.systems.recsysllm.backbones.glm import GlmBackbone
from legos.systems.recsysllm.catalogue import Origin
from legos.systems.recsysllm.measure import chosen_templates, default_templates
from legos.systems.recsysllm.measure_settings import MeasureSettings
from legos.systems.recsysllm.prompts import builtin_prompts
from legos.systems.recsysllm.settings import RecsysllmModel
from legos.systems.recsysllm.system import refuse_long, refuse_unfit
from legos.systems.recsysllm.tasks.candidates import split_of_candidates, table_candidates
from legos.systems.recsysllm.world import TaskFamilies, open_world, position_rows
from legos.workplace.workplace import Workplace


def show_recsysllm(
    workplace: Workplace, console: Console, new_data: bool, processes: Sequence[int]
) -> None:
    """Print input, entities, parameters, training and measurements."""
    settings = RecsysllmModel.of(workplace.config.model)
    refuse_unfit(workplace, settings)
    seed, rows = workplace.config.exp.train.seed, position_rows(settings, None)
    language = open_language(settings.model, settings.backbone, seed=seed, shapes_only=True)
    refuse_long(settings, language.longest, language.name)
    if isinstance(language, LanguageModel):
        report = audit_word_model(language, settings.backbone.init)
        if report is not None:
            console.print(f"tensors in the files of {language.name}: {report}", markup=False)
    if language.has_tokenizer:
        origin = Origin.of_run(workplace.config.exp.load, workplace.tables)
        world = open_world(workplace.tables, language, settings, seed=seed, origin=origin)
        families, rows = world.families, position_rows(settings, world.pool)
        entities = world.pool.describe()
        chosen_templates(world)
    else:
        families = TaskFamilies.from_tables(workplace.tables, settings.tasks, seed=seed)
        entities = "unknown: the tokenizer is not on this machine"
    if new_data:
        print_read(console, workplace.config, [*_read(families), ("entities", entities)])
    backbone = build_backbone(language, settings.backbone, rows=rows, seed=seed, shapes_only=True)
    part = Part.of("language model, adapters, positions", counted(backbone))
    print_backbone(console, settings, language, [part])
    _show_plan(workplace.tables, families, settings, workplace.config.exp.train, console)
    title = f"memory on {workplace.accelerator.device} of {settings.name}, per device"
    footprint = _footprint(backbone, settings, workplace.config.exp)
    print_memory(console, title, footprint, processes)


def _footprint(backbone: Backbone, settings: RecsysllmModel, exp: ExpConfig) -> Footprint:
    """The memory of the largest steps: as many tokens at once as a step ever reads."""
    glm = isinstance(backbone, GlmBackbone)
    own, width = exp.train, settings.positions.max_tokens

    def activations(processes: int) -> Activations | None:
        examples = math.ceil(own.batch_size / processes)
        rows = max(1, min(own.batch_tokens // width, examples))
        if glm:
            run = glm_run(rows, width, backbone.width, learn=settings.backbone.train == "full")
        else:
            run = transformer_run(rows, width, vectors=True)
        return activations_of(backbone.inner, run, autocast=exp.precision != "fp32")

    weights = weights_of(backbone, layers_of(backbone.inner))
    return Footprint(weights, activations, beside=score_bytes(MAX_LOGITS))


def glm_run(rows: int, width: int, hidden_size: int, *, learn: bool) -> Run:
    """As :func:`legos.lm.footprint.transformer_run`, for a GLM's transformer."""

    def run(model: nn.Module) -> Tensor:
        dtype = next(each.dtype for each in model.parameters() if each.is_floating_point())
        vectors = torch.empty(rows, width, hidden_size, dtype=dtype, device="meta")
        vectors.requires_grad_(learn)
        ids = torch.zeros(rows, width, dtype=torch.int64, device="meta")
        mask = torch.ones(rows, 1, width, width, dtype=torch.bool, device="meta")
        found: Tensor = model(vectors, ids, ids, mask, None)
        return found

    return run


def _read(families: TaskFamilies) -> list[tuple[str, str]]:
    lengths = families.sequences.items.lengths
    named = ", ".join(f"{count:,} {name}" for name, count in families.catalogue.counts.items())
    rows = [
        ("users with three events", f"{len(families.sequences):,}, {lengths.sum():,} events"),
        ("items", f"{families.sequences.num_items:,}; titles: {named or 'unchanged'}"),
    ]
    rows += [
        (f"examples of {name}", f"{len(task):,} per epoch")
        for name, task in families.mixture().tasks.items()
    ]
    return rows


def _show_plan(
    tables: Tables,
    families: TaskFamilies,
    settings: RecsysllmModel,
    own: TrainConfig,
    console: Console,
) -> None:
    measure = settings.measure
    steps = own.epoch_steps or -(-len(families.mixture()) // own.batch_size)
    table = titled_table("training and measuring", "what", "how")
    table.add_row("steps", f"{own.epochs} epochs of {steps:,} steps of {own.batch_size} examples")
    table.add_row(
        "mixture", f"{', '.join(families.mixture().names)}; blanks {own.infill_share:.0%}"
    )
    table.add_row("learning rate", f"{own.lr:g}, {own.schedule}")
    names = measure.prompts or [t.name for t in default_templates(builtin_prompts())]
    known = {*families.users, *families.about_reviews}
    if families.origin is not None:
        table.add_row("trained on", f"{families.origin.name}; nothing of these tables")
    there = [name for name in names if builtin_prompts()[name].family in known]
    table.add_row("prompts of a test", ", ".join(there))
    users = "all" if measure.users is None else f"at most {measure.users:,}"
    table.add_row("users or reviews a row", f"{users}, {_search(measure)}")
    table.add_row("candidates", _candidates(tables, families, settings))
    console.print(table)


def _search(measure: MeasureSettings) -> str:
    """Describe how items are searched."""
    if measure.search == "beams":
        return f"{measure.beams} beams"
    bound = "" if measure.most_read is None else f", {measure.most_read:,} tokens a user at most"
    return f"exact search after {measure.beams} beams{bound}"


def _candidates(tables: Tables, families: TaskFamilies, settings: RecsysllmModel) -> str:
    own = settings.measure
    name = split_of_candidates(tables, "test", own.negatives)
    if name is None:
        return f"1 + {own.negatives}, drawn with seed {own.seed} and frozen"
    found = table_candidates(tables, families.sequences, name, split="test")
    return f"1 + {own.negatives} of split {name}, sha256 {found.fingerprint[:12]}"
