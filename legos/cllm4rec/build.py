"""A backbone from a language model: pretrained or random, cut, frozen or trained."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from legos.cllm4rec.backbone import SoftPromptBackbone
from legos.cllm4rec.model import Cllm4Rec
from legos.cllm4rec.settings import BackboneSettings, Cllm4RecConfig
from legos.cllm4rec.soft_tables import SoftTables
from legos.cllm4rec.templates import Templates
from legos.cllm4rec.tokenizer import SoftTokenizer
from legos.cllm4rec.vocabulary import Vocabulary
from legos.errors import ConfigError
from legos.lm.adapt import add_lora, freeze
from legos.lm.cut import layer_stack
from legos.lm.load import LanguageModel


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
    language: LanguageModel, settings: BackboneSettings, *, seed: int = 0
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
        model = fresh_model(language) if settings.init == "random" else pretrained_model(language)
        backbone = prepare_backbone(model, settings)
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


def prepare_backbone(model: Any, settings: BackboneSettings) -> SoftPromptBackbone:
    """Cut a model of transformers and say what of it learns, in place.

    Raises:
        ConfigError: it has fewer layers than are to be kept, or it cannot be a backbone.
    """
    if settings.layers is not None:
        keep_layers(model, settings.layers, cut=settings.cut)
    backbone = SoftPromptBackbone(
        model, row_tokens=settings.row_tokens, temperature=settings.temperature
    )
    if settings.train == "frozen":
        freeze(backbone)
    elif settings.train == "full":
        backbone.requires_grad_(True)
    else:
        add_lora(
            backbone.model,
            rank=settings.lora_rank,
            alpha=settings.lora_alpha,
            dropout=settings.lora_dropout,
            targets=settings.lora_targets,
        )
        if backbone.head is not None:
            freeze(backbone.head)
    return backbone


def keep_layers(model: Any, count: int, *, cut: Literal["end", "middle"] = "end") -> None:
    """Keep so many layers of a model and its last norm, in place; of an encoder-decoder, of both.

    Args:
        model: of transformers.
        count: layers.
        cut: where the others are taken out; ``middle`` keeps as many first as last ones.

    Raises:
        ConfigError: it has fewer.
    """
    if getattr(model.config, "is_encoder_decoder", False):
        for stack in (model.encoder, model.decoder):
            stack.block = _kept(stack.block, count, model, cut)
            stack.config.num_layers = count
        model.config.num_layers = model.config.num_decoder_layers = count
        return
    holder, name, layers = layer_stack(model.base_model)
    setattr(holder, name, _kept(layers, count, model, cut))
    model.config.num_hidden_layers = count
    types = getattr(model.config, "layer_types", None)
    if types:
        numbers = _numbers(len(types), count, cut)
        model.config.layer_types = [types[number] for number in numbers]


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


def _kept(
    layers: nn.ModuleList, count: int, model: nn.Module, cut: Literal["end", "middle"]
) -> nn.ModuleList:
    if count > len(layers):
        raise ConfigError(
            f"backbone.layers: {count}, but {type(model).__name__} has {len(layers)}; "
            f"expected 1 to {len(layers)}"
        )
    kept = nn.ModuleList(layers[number] for number in _numbers(len(layers), count, cut))
    for number, layer in enumerate(kept):
        parts: Iterator[Any] = layer.modules()
        for part in parts:  # a key-value cache finds a layer by its number
            if hasattr(part, "layer_idx"):
                part.layer_idx = number
    return kept


def _numbers(total: int, count: int, cut: Literal["end", "middle"]) -> list[int]:
    first = count if cut == "end" else count - count // 2
    return [*range(first), *range(total - (count - first), total)]


def fresh_model(language: LanguageModel) -> Any:
    """A model of the same shape; where its head is its own, with a head."""
    from transformers import AutoModel, AutoModelForCausalLM

    config = deepcopy(language.config)
    kind: Any = AutoModelForCausalLM if _has_own_head(config) else AutoModel
    return kind.from_config(config).eval()


def pretrained_model(language: LanguageModel) -> Any:
    """The model; where its head is its own, with the head of its files."""
    if not _has_own_head(language.config) or language.source.random:
        return language.load()
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(
            str(language.located.folder), local_files_only=True, **language.located.arguments
        ).eval()
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"language model {language.name!r}: its head over words cannot be read ({reason})"
        ) from None


def _has_own_head(config: Any) -> bool:
    return not getattr(config, "tie_word_embeddings", True) and not config.is_encoder_decoder
