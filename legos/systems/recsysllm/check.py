"""What ``--check`` says of RecSysLLM: data, entities, parameters, prompts; no weights are read."""

from __future__ import annotations

from rich.console import Console

from legos.data.tables import Tables
from legos.errors import ConfigError
from legos.lm.load import LanguageModel
from legos.lm.word_model import audit_word_model
from legos.reports.tables import Part, memory_line, print_backbone, print_read, titled_table
from legos.systems.recsysllm.backbones.build import (
    build_backbone,
    intra_rows,
    open_language,
    open_world,
)
from legos.systems.recsysllm.measure import chosen_templates, default_templates
from legos.systems.recsysllm.model_settings import RecsysllmModel
from legos.systems.recsysllm.origin import Origin
from legos.systems.recsysllm.prompts import builtin_prompts
from legos.systems.recsysllm.system import refuse_long, refuse_unfit
from legos.systems.recsysllm.tasks.candidates import split_of_candidates, table_candidates
from legos.systems.recsysllm.tasks.mixture import TaskFamilies
from legos.workplace.workplace import Workplace


def show_recsysllm(place: Workplace, console: Console, new_data: bool) -> None:
    """Print what is read, entities, parameters, training and what is measured."""
    settings = RecsysllmModel.of(place.config.model)
    refuse_unfit(place, settings)
    seed, rows = place.config.exp.train.seed, settings.backbone.max_intra or 0
    language = open_language(settings.model, settings.backbone, seed=seed, shapes_only=True)
    refuse_long(settings, language.longest, language.name)
    if isinstance(language, LanguageModel):
        report = audit_word_model(language, settings.backbone.init)
        if report is not None:
            console.print(f"tensors in the files of {language.name}: {report}", markup=False)
    try:
        origin = Origin.of_run(place.config.exp.load, place.tables)
        world = open_world(place.tables, language, settings, seed=seed, origin=origin)
        families, rows = world.families, intra_rows(settings, world.pool)
        entities = world.pool.describe()
        chosen_templates(world)
    except ConfigError as error:
        here = isinstance(language, LanguageModel) and language.has_tokenizer
        if here or "tokenizer" not in str(error):
            raise
        families = TaskFamilies.from_tables(place.tables, settings.tasks, seed=seed)
        entities = "unknown: the tokenizer is not here"
    if new_data:
        print_read(console, place.config, [*_read(families), ("entities", entities)])
    backbone = build_backbone(
        language, settings.backbone, max_intra=max(1, rows), seed=seed, shapes_only=True
    )
    trained = sum(p.numel() for p in backbone.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in backbone.parameters() if not p.requires_grad)
    parts = [Part("language model, adapters, positions", trained, frozen)]
    print_backbone(console, settings, language, parts)
    _show_plan(place.tables, families, settings, console)
    console.print(memory_line(place.accelerator.device, parts))


def _read(families: TaskFamilies) -> list[tuple[str, str]]:
    lengths = families.sequences.items.lengths
    named = ", ".join(f"{count:,} {name}" for name, count in families.catalogue.counts.items())
    rows = [
        ("users with three events", f"{len(families.sequences):,}, {lengths.sum():,} events"),
        ("items", f"{families.sequences.num_items:,}; titles: {named or 'as they are'}"),
    ]
    rows += [
        (f"examples of {name}", f"{len(task):,} an epoch")
        for name, task in families.mixture().tasks.items()
    ]
    return rows


def _show_plan(
    tables: Tables, families: TaskFamilies, settings: RecsysllmModel, console: Console
) -> None:
    own, measure = settings.training, settings.measure
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
    table.add_row("users or reviews a row", f"{users}, {measure.beams} beams")
    table.add_row("candidates", _candidates(tables, families, settings))
    console.print(table)


def _candidates(tables: Tables, families: TaskFamilies, settings: RecsysllmModel) -> str:
    own = settings.measure
    name = split_of_candidates(tables, "test", own.negatives)
    if name is None:
        return f"1 + {own.negatives}, drawn with seed {own.seed} and frozen"
    found = table_candidates(tables, families.sequences, name, split="test")
    return f"1 + {own.negatives} of split {name}, sha256 {found.fingerprint[:12]}"
