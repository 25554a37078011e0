"""What ``worker.py --check`` says of a language model: shape, what is trained, size of its cache.

Nothing of it is loaded: parameters are counted on the meta device, tokens by its tokenizer where
that is on this machine and else estimated from those of the tables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.item.iisan import IISANConfig
from legos.item.language_model import LanguageModelConfig, LanguageModelSettings
from legos.item.text_vectors import TextVectorsConfig
from legos.lm.adapt import choose_trained, lora_parameters, trained_part
from legos.lm.cut import cut_below
from legos.lm.load import LanguageModel
from legos.lm.text_model import DTYPES
from legos.terminal import shown_bytes
from legos.workplace.item_template import refuse_no_fields, template_for
from legos.workplace.language import (
    language_model_settings,
    refuse_other_width,
    try_language_model,
)

_MIND_SMALL = 65_238, 33  # news, and tokens of each that ONCE reads
TRAINED = "trained"
_PROMPT_TOKENS = 4  # a field's prompt and the marks around it, where no tokenizer can count them


@dataclass(frozen=True)
class Texts:
    """Tokens that a language model reads."""

    lengths: Tensor  # ``(N,)`` int64
    counted: bool  # by its own tokenizer; else estimated


def language_rows(config: RunConfig, tables: Tables | None) -> list[tuple[str, str]]:
    """Facts to print, as pairs of a name and a text; none if no language model is used.

    Without tables, only the facts of the model.
    """
    settings = language_model_settings(config.model)
    if settings is None:
        return []
    model = LanguageModel(
        settings.model, settings, shapes_only=True, bidirectional=settings.bidirectional
    )
    refuse_other_width(config, model)
    rows = [*_shape(model), _tried(settings, model), *_trained(settings, model)]
    if config.exp.mode == "cache":
        rows[-1] = (TRAINED, "nothing: mode cache computes hidden states")
    if tables is None:
        return [*rows, _cache_of_mind(settings, model)]
    texts = texts_of(config, tables, settings, model)
    how = "" if texts.counted else " (estimated from the tables' own tokens)"
    mean = float(texts.lengths.float().mean()) if len(texts.lengths) else 0.0
    rows.append(("tokens per item", f"{mean:.1f}{how}"))
    return rows + _cache(settings, model, texts)


def texts_of(
    config: RunConfig, tables: Tables, settings: LanguageModelSettings, model: LanguageModel
) -> Texts:
    """Tokens per item, counted or estimated.

    Raises:
        ConfigError: the items have no field.
    """
    refuse_no_fields(config.data)
    if not model.has_tokenizer:
        lengths = torch.full((tables.num_items,), _PROMPT_TOKENS if settings.prompts else 2)
        for field in config.data.fields:
            lengths += _PROMPT_TOKENS if settings.prompts else 0
            if "@" in field.column:
                own = tables.lists("items", field.column).lengths
                lengths += own.clamp(max=field.length) if field.length else own
            else:
                lengths += 1
        return Texts(lengths, counted=False)
    counted = model.read(template_for(settings, model, config.data, tables))
    return Texts(counted.lengths, counted=True)


def _shape(model: LanguageModel) -> list[tuple[str, str]]:
    whole = sum(parameter.numel() for parameter in model.skeleton().parameters())
    size = DTYPES[model.dtype].itemsize
    report = model.audit()
    return [
        ("language model", f"{model.name} ({model.config.model_type})"),
        ("layers (L), width (E)", f"{model.num_layers}, {model.width}"),
        ("parameters", f"{whole:,}, {shown_bytes(whole * size)} as {model.dtype}"),
        *([("tensors in its files", str(report))] if report else []),
    ]


def _tried(settings: LanguageModelSettings, model: LanguageModel) -> tuple[str, str]:
    """The check on a small random model of the same kind; ConfigError if it fails."""
    tried = try_language_model(settings, model)
    of = "check on a small random model"
    if isinstance(settings, LanguageModelConfig) and settings.layer:
        layer = model.layer(settings.layer)
        return of, f"cut at layer {layer} equals uncut: largest difference {tried.cut:.1g}"
    if math.isnan(tried.padding):
        return of, "not done: no small model of this kind could be built"
    return of, f"an item alone equals one in a batch: largest difference {tried.padding:.1g}"


def _trained(settings: LanguageModelSettings, model: LanguageModel) -> list[tuple[str, str]]:
    if not isinstance(settings, LanguageModelConfig):
        return [("in training", "not loaded: cached outputs are read")]
    kept = model.skeleton()
    if settings.layer:
        cut_below(kept, model.layer(settings.layer), like=model.twin(model.layer(settings.layer)))
    size = DTYPES[model.dtype].itemsize
    count = sum(p.numel() for p in kept.parameters() if p.requires_grad)
    layers = model.num_layers - model.layer(settings.layer)
    rows = [("kept layers", f"{layers} of {model.num_layers}: {count:,} parameters, "
             f"{shown_bytes(count * size)}")]  # fmt: skip
    choose_trained(kept, settings)
    if settings.train == "lora":
        count = sum(parameter.numel() for parameter in lora_parameters(kept))
    trained = trained_part(settings, kept=layers, layers=model.num_layers, parameters=count)
    return [*rows, (TRAINED, trained)]


def _cache(
    settings: LanguageModelSettings, model: LanguageModel, texts: Texts
) -> list[tuple[str, str]]:
    dtype = settings.stored_dtype
    number = DTYPES[dtype].itemsize * model.width
    items, tokens = len(texts.lengths), int(texts.lengths.sum())
    if isinstance(settings, IISANConfig):
        size = items * number * (model.num_layers + 1)
        return [("cache", f"{shown_bytes(size)}: {items:,} items, all layers pooled, {dtype}")]
    if isinstance(settings, TextVectorsConfig):
        size = items * DTYPES[dtype].itemsize * settings.vector_width(model)
        return [("cache", f"{shown_bytes(size)}: {items:,} items, one vector each, {dtype}")]
    if isinstance(settings, LanguageModelConfig) and settings.layer:
        padded = items * int(texts.lengths.max()) * model.width * 4 if items else 0
        layer = model.layer(settings.layer)
        text = f"{shown_bytes(tokens * number)} for layer {layer}: {tokens:,} tokens, {dtype}"
        return [("cache", f"{text}; {shown_bytes(padded)} if padded, in fp32")]
    return [("cache", "none (layer 0): every layer runs in every step")]


def _cache_of_mind(settings: LanguageModelSettings, model: LanguageModel) -> tuple[str, str]:
    """The size of a layer's cache for MIND-small, if there are no tables to count."""
    dtype = settings.stored_dtype
    token = DTYPES[dtype].itemsize * model.width
    items, tokens = _MIND_SMALL
    return (
        "cache of a layer",
        f"{shown_bytes(token)} a token as {dtype}; {shown_bytes(items * tokens * token)} for "
        f"MIND-small's {items:,} news of {tokens} tokens (ONCE)",
    )
