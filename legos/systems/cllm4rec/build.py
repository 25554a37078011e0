"""A backbone from a language model: pretrained or random, cut, frozen or trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from legos.errors import ConfigError
from legos.lm.adapt import choose_trained, freeze
from legos.lm.load import LanguageModel
from legos.lm.word_model import keep_layers, word_model
from legos.systems.cllm4rec.backbone import SoftPromptBackbone
from legos.systems.cllm4rec.model import Cllm4Rec
from legos.systems.cllm4rec.settings import Cllm4RecConfig, SoftPromptSettings
from legos.systems.cllm4rec.soft_tables import SoftTables
from legos.systems.cllm4rec.templates import Templates
from legos.systems.cllm4rec.tokenizer import SoftTokenizer
from legos.systems.cllm4rec.vocabulary import Vocabulary


@dataclass(frozen=True)
class Assembled:
    """A model and what turns its data into tokens.

    Attributes:
        model: on the CPU, in evaluation mode.
        tokenizer: with users and items.
        templates: prompts.
    """

    model: Cllm4Rec
    tokenizer: SoftTokenizer
    templates: Templates


def build_cllm4rec(
    language: LanguageModel, settings: Cllm4RecConfig, *, users: int, items: int, seed: int = 0
) -> Assembled:
    """A fresh model over a language model.

    Args:
        language: which.
        settings: switches.
        users: I.
        items: J.
        seed: of the tables, and of random weights and adapters.

    Raises:
        ConfigError: see :func:`build_backbone`; or the language model's tokenizer is not its own.
    """
    backbone = build_backbone(language, settings.backbone, seed=seed)
    vocabulary = Vocabulary(backbone.words, users, items)
    tokenizer = SoftTokenizer(
        language.tokenizer,
        vocabulary,
        strict=settings.tokenizer.strict,
        word_boundary=settings.tokenizer.word_boundary,
    )
    generator = torch.Generator().manual_seed(seed)
    std = soft_std(backbone, settings)
    sides = [
        SoftTables(vocabulary, width=backbone.width, std=std, generator=generator)
        for _ in range(1 + settings.content.enabled)
    ]
    model = Cllm4Rec(
        backbone=backbone,
        collaborative=sides[0],
        content=sides[1] if settings.content.enabled else None,
        settings=settings,
    )
    return Assembled(model.eval(), tokenizer, Templates(tokenizer, wording=settings.wording))


def build_backbone(
    language: LanguageModel, settings: SoftPromptSettings, *, seed: int = 0
) -> SoftPromptBackbone:
    """Load a language model and prepare it.

    Args:
        language: which.
        settings: what is made of it.
        seed: of random weights and adapters.

    Raises:
        ConfigError: its files are missing, it has fewer layers than are to be kept, it cannot be a
            backbone, or it is no causal language model.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = prepare_backbone(word_model(language, settings.init), settings)
        refuse_look_ahead(backbone, language.name)
        return backbone


@torch.no_grad()
def refuse_look_ahead(backbone: SoftPromptBackbone, name: str) -> None:
    """Raise ConfigError where a state depends on later tokens: BERT would read what it predicts."""
    if backbone.encoder_decoder:
        return
    parameter = backbone.token_table
    vectors = torch.randn(1, 3, backbone.width, generator=torch.Generator().manual_seed(0))
    vectors = vectors.to(parameter)
    other = vectors.clone()
    other[:, -1] += 1
    found, changed = (
        backbone.model.eval()(inputs_embeds=each).last_hidden_state for each in (vectors, other)
    )
    if not torch.equal(found[:, :-1], changed[:, :-1]):
        raise ConfigError(
            f"language model {name!r} ({backbone.model.config.model_type}) sees later tokens, so "
            "it cannot predict them; choose GPT-2, LLaMA, OPT, Qwen or T5"
        )


def prepare_backbone(model: Any, settings: SoftPromptSettings) -> SoftPromptBackbone:
    """Cut a model of transformers and say what of it learns, in place.

    Raises:
        ConfigError: it has fewer layers than are to be kept, or it cannot be a backbone.
    """
    if settings.layers is not None:
        keep_layers(model, settings.layers, cut=settings.cut)
    backbone = SoftPromptBackbone(
        model, row_tokens=settings.row_tokens, temperature=settings.temperature
    )
    choose_trained(backbone.model, settings)
    if backbone.head is not None and settings.trained != "full":
        freeze(backbone.head)
    return backbone


def soft_std(backbone: SoftPromptBackbone, settings: Cllm4RecConfig) -> float:
    """Standard deviation of fresh users and items.

    Raises:
        ConfigError: the model's configuration has no initializer_range.
    """
    if isinstance(settings.soft_init, float):
        return settings.soft_init
    if settings.soft_init == "token_table":
        return float(backbone.token_table.detach().float().std())
    config = backbone.model.config
    std = getattr(config, "initializer_range", getattr(config, "init_std", None))
    if std is None:
        raise ConfigError(
            f"soft_init: {type(backbone.model).__name__} has no initializer_range; give "
            "token_table or a number"
        )
    return float(std)
