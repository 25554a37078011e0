"""Output of ``--check`` for CLLM4Rec: data, parameters, stages; no weights are read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

from rich.console import Console
from torch import nn

from legos.lm.footprint import (
    Activations,
    Footprint,
    activations_of,
    counted,
    score_bytes,
    transformer_run,
    weights_of,
)
from legos.lm.load import LanguageModel
from legos.lm.text_model import layers_of
from legos.lm.word_model import MAX_LOGITS, audit_word_model, word_model
from legos.reports.check import Part, print_backbone, print_memory, print_read, titled_table
from legos.systems.cllm4rec.backbone import SoftPromptBackbone
from legos.systems.cllm4rec.corpus import (
    TokenStore,
    chosen_kinds,
    read_corpus,
    token_store,
    train_items,
)
from legos.systems.cllm4rec.model import prepare_backbone
from legos.systems.cllm4rec.settings import Cllm4RecModel
from legos.systems.cllm4rec.stages import most_steps, stages_of
from legos.systems.cllm4rec.system import refuse_long
from legos.workplace.workplace import Workplace

_NAMES = {
    "backbone": "language model",
    "collaborative": "collaborative tables",
    "content": "content tables",
}
_SAMPLE = 200  # texts from which tokens are estimated
_ABOUT = 9  # tokens around a text or a user's items


def show_cllm4rec(
    workplace: Workplace, console: Console, new_data: bool, processes: Sequence[int]
) -> None:
    """Print users and texts of new data, parameters, stages and memory."""
    settings = Cllm4RecModel.of(workplace.config.model)
    language = LanguageModel(settings.model, settings.backbone, shapes_only=True)
    refuse_long(settings, language.longest, language.name)
    report = audit_word_model(language, settings.backbone.init)
    if report is not None:
        console.print(f"tensors in the files of {language.name}: {report}", markup=False)
    counts = _counts(workplace, settings, language)
    if new_data:
        print_read(console, workplace.config, _read(workplace, settings, language, counts))
    model = _skeleton(workplace, settings, language)
    parts = [Part.of(_NAMES[name], counted(part)) for name, part in model.named_children()]
    print_backbone(console, settings, language, parts)
    stages = titled_table("stages", "stage", "epochs", "learning rate", "passes (steps, tokens)")
    train = workplace.config.exp.train
    for stage in stages_of(settings, train):
        if stage.epochs:
            passes = []
            for each in stage.passes:
                rows, tokens = counts[each.task]
                steps = -(-rows // train.batch_size)
                taken = min(steps, most_steps(train.stages)[each.task] or steps)
                share = tokens * taken / max(1, steps)
                passes.append(f"{each.task} ({taken:,}, {share:,.0f})")
            stages.add_row(stage.name, str(stage.epochs), f"{stage.lr:g}", ", ".join(passes))
    console.print(stages)
    title = f"memory on {workplace.accelerator.device} of {settings.name}, per device"
    print_memory(console, title, _footprint(workplace, settings, model, counts), processes)


def _counts(
    workplace: Workplace, settings: Cllm4RecModel, language: LanguageModel
) -> dict[str, tuple[int, int]]:
    """Rows and tokens of a whole pass by task; tokens of texts are estimated until stored."""
    items = train_items(workplace.tables, workplace.train)
    users = int((items.lengths > 0).sum())
    tokens = items.values.numel() + _ABOUT * users
    counts = {"collaborative": (users, tokens), "recommendation": (users, tokens)}
    if not settings.content.enabled:
        return counts
    store = _store(workplace, settings, language)
    if store is not None and store.finished:
        texts = store.open().texts
        lengths = (texts.lengths + _ABOUT).clamp(max=settings.max_length)
        return {**counts, "content": (len(texts), int(lengths.sum()))}
    kinds = chosen_kinds(settings.content.kinds, workplace.config.data, workplace.tables)
    corpus = read_corpus(kinds, workplace.config.data, workplace.tables)
    step = max(1, len(corpus.texts) // _SAMPLE)
    sample = corpus.texts[::step]
    if language.has_tokenizer:
        found = [len(each.ids) for each in language.tokenizer.encode_batch(sample)]
    else:  # a shape without files: a token is about four letters
        found = [len(text) // 4 for text in sample]
    mean = sum(min(length + _ABOUT, settings.max_length) for length in found) / max(1, len(found))
    return {**counts, "content": (len(corpus.texts), round(mean * len(corpus.texts)))}


def _store(
    workplace: Workplace, settings: Cllm4RecModel, language: LanguageModel
) -> TokenStore | None:
    """The store; None if the tokenizer's files are not on this machine."""
    if not language.has_tokenizer:
        return None
    return token_store(workplace, settings, language)


def _read(
    workplace: Workplace,
    settings: Cllm4RecModel,
    language: LanguageModel,
    counts: Mapping[str, tuple[int, int]],
) -> list[tuple[str, str]]:
    users, tokens = counts["collaborative"]
    rows = [("users with items in training", f"{users:,} of {workplace.tables.num_users:,}")]
    rows.append(("tokens of their prompts", f"about {tokens:,}"))
    if settings.content.enabled:
        texts, tokens = counts["content"]
        kinds = chosen_kinds(settings.content.kinds, workplace.config.data, workplace.tables)
        rows.append((f"texts ({', '.join(kinds)})", f"{texts:,}, about {tokens:,} tokens"))
        store = _store(workplace, settings, language)
        state = "the tokenizer is not here"
        if store is not None:
            state = f"{store.path} ({'finished' if store.finished else 'not made yet'})"
        rows.append(("token store", state))
    return rows


def _skeleton(
    workplace: Workplace, settings: Cllm4RecModel, language: LanguageModel
) -> nn.ModuleDict:
    """Backbone and tables on the meta device."""
    backbone = prepare_backbone(word_model(language, settings.backbone.init), settings.backbone)
    rows = workplace.tables.num_users + workplace.tables.num_items
    sides = ("collaborative", "content")[: 1 + settings.content.enabled]
    tables = {side: nn.Embedding(rows, backbone.width, device="meta") for side in sides}
    return nn.ModuleDict({"backbone": backbone, **tables})


def _footprint(
    workplace: Workplace,
    settings: Cllm4RecModel,
    model: nn.ModuleDict,
    counts: Mapping[str, tuple[int, int]],
) -> Footprint:
    backbone, own = cast(SoftPromptBackbone, model["backbone"]), settings.backbone
    learning = [p for p in backbone.parameters() if p.requires_grad]
    sides = [part for name, part in model.items() if name != "backbone"]
    tokens = max(count / max(1, rows) for rows, count in counts.values())  # of a row of a step
    autocast = workplace.config.exp.precision != "fp32"

    def activations(processes: int) -> Activations | None:
        rows = math.ceil(workplace.config.exp.train.batch_size / processes)
        width = max(1, math.ceil(tokens))
        if backbone.packs:
            width = max(width, own.row_tokens)
            rows = math.ceil(rows * tokens / width)
        run = transformer_run(rows, width, vectors=True)
        return activations_of(backbone.model, run, autocast=autocast)

    items = workplace.config.exp.train.batch_size * workplace.tables.num_items
    optimized = [[*side.parameters(), *learning] for side in sides]
    return Footprint(
        weights_of(model, layers_of(backbone.model), optimized),
        activations,
        beside=score_bytes(MAX_LOGITS + items),
    )
