"""RecSysLLM put together: a decoder that fills blanks, its tasks, entities and automaton."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from legos.data.tables import Tables
from legos.errors import ConfigError
from legos.lm.load import LanguageModel
from legos.lm.source import LanguageModelSource
from legos.lm.word_model import keep_layers, word_model
from legos.systems.recsysllm.automaton import Automaton
from legos.systems.recsysllm.backbones.decoder import DecoderBackbone
from legos.systems.recsysllm.backbones.glm_files import GlmFiles
from legos.systems.recsysllm.backbones.lora import Backbone, choose_parts
from legos.systems.recsysllm.backbones.special_tokens import SpecialTokens
from legos.systems.recsysllm.entities import EntityPool
from legos.systems.recsysllm.model_settings import DecoderSettings, RecsysllmConfig
from legos.systems.recsysllm.origin import Origin
from legos.systems.recsysllm.positions import Examples, build_examples
from legos.systems.recsysllm.prompts import Instance
from legos.systems.recsysllm.task_settings import AROUND_ANSWER, TaskSettings
from legos.systems.recsysllm.tasks.catalogue import ENTITY_TYPES, ITEM
from legos.systems.recsysllm.tasks.mixture import TaskFamilies, tokenized
from legos.systems.recsysllm.units import UnitTokenizer

_OTHER_ROWS = 2  # of the table of positions besides an entity's: plain tokens, [START]


@dataclass(frozen=True)
class World:
    """What of a data set and a language model's tokenizer every part reads.

    Attributes:
        settings: all of them.
        families: tasks of these tables.
        tokenizer: units to tokens.
        pool: every entity as tokens.
        automaton: of the pool, on the CPU.
    """

    settings: RecsysllmConfig
    families: TaskFamilies
    tokenizer: UnitTokenizer
    pool: EntityPool
    automaton: Automaton

    def examples(
        self,
        instances: Sequence[Instance],
        special: SpecialTokens,
        settings: TaskSettings | None = None,
    ) -> Examples:
        """Filled templates as examples for a backbone with these tokens, on the CPU.

        ``settings`` stand in place of those of training.
        """
        own = settings or self.settings.tasks
        if self.settings.positions.prepend_cls:  # it is one of the most tokens
            own = own.model_copy(update={"max_tokens": own.max_tokens - 1})
        documents, blanks = tokenized(instances, self.tokenizer, own)
        positions = self.settings.positions.model_copy(update={"shuffle_spans": False})
        return build_examples(documents, blanks, special, positions, self.automaton)


def open_world(
    tables: Tables,
    language: LanguageModel | GlmFiles,
    settings: RecsysllmConfig,
    *,
    seed: int,
    say: Callable[[str], None] = lambda text: None,
    origin: Origin | None = None,
) -> World:
    """Read tables and tokenize their entities.

    Args:
        tables: split leave-last-out.
        language: whose tokenizer.
        settings: how.
        seed: of the run.
        say: told how items are named.
        origin: other tables, which the model that is measured was trained on.

    Raises:
        ConfigError: the tokenizer is not a fast one, windows in days where times are unknown, or an
            item that is longer than a prompt may be.
        DataError: the tables are split in another way or have no titles.
    """
    families = TaskFamilies.from_tables(tables, settings.tasks, seed=seed, origin=origin, say=say)
    counts = families.catalogue.counts
    if any(counts.values()):
        said = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        say(f"titles of {tables.num_items:,} items: {said}; all names are different")
    if origin is not None:
        known = int(origin.known_users(tables).sum())
        say(f"trained on {origin.name}: {known:,} of {tables.num_users:,} users are in both")
    tokenizer = UnitTokenizer(language.tokenizer, ENTITY_TYPES)
    pool = EntityPool(tokenizer, families.catalogue.entities())
    settings = with_room_for_items(settings, pool)
    automaton = Automaton(pool.trie(), settings.positions)
    return World(settings, families, tokenizer, pool, automaton)


def with_room_for_items(settings: RecsysllmConfig, pool: EntityPool) -> RecsysllmConfig:
    """The same, with answers long enough for every item.

    Raises:
        ConfigError: an item and nothing else has more tokens than a prompt and its answer.
    """
    own = settings.tasks
    longest = int(pool.sequences.lengths[pool.types == pool.type_names.index(ITEM)].max())
    if longest + AROUND_ANSWER >= own.max_tokens:
        raise ConfigError(
            f"model.tasks.max_tokens: {own.max_tokens}, but the name of an item has {longest}; "
            "expected room for it and for what is asked; raise it or lower "
            "model.tasks.max_name_words"
        )
    tasks = own.model_copy(update={"max_answer_tokens": max(longest, own.max_answer_tokens)})
    return settings.model_copy(update={"tasks": tasks})


def intra_rows(settings: RecsysllmConfig, pool: EntityPool) -> int:
    """Rows of the table of intra-entity positions."""
    if settings.backbone.max_intra is not None:
        return settings.backbone.max_intra
    if settings.positions.intra_mode == "paper":
        return int(pool.sequences.lengths.max()) + _OTHER_ROWS
    return settings.positions.max_tokens + _OTHER_ROWS  # text is counted through


def open_language(
    source: LanguageModelSource,
    settings: DecoderSettings,
    *,
    seed: int,
    shapes_only: bool = False,
) -> LanguageModel | GlmFiles:
    """The language model that settings name, by its kind; nothing of it is read yet.

    Args:
        source: where it comes from.
        settings: its kind and layout.
        seed: of a GLM's fresh weights.
        shapes_only: never read weights.
    """
    if settings.kind == "glm":
        return GlmFiles(
            source,
            layout=settings.layout,
            seed=seed,
            dtype=settings.dtype,
            quantised=settings.quantised,
        )
    return LanguageModel.of(source, settings, shapes_only=shapes_only)


def build_backbone(
    language: LanguageModel | GlmFiles,
    settings: DecoderSettings,
    *,
    max_intra: int,
    seed: int,
    shapes_only: bool = False,
) -> Backbone:
    """A language model that fills blanks, with what of it is trained, on the CPU.

    Args:
        language: which.
        settings: what is made of it.
        max_intra: rows of a decoder's table of intra-entity positions.
        seed: of new tokens, adapters and random weights.
        shapes_only: without numbers, for counts.

    Raises:
        ConfigError: its files are missing or do not fit, or it cannot be a backbone.
    """
    if isinstance(language, LanguageModel):
        if shapes_only:
            skeleton = word_model(language, settings.init)
            return prepare_decoder(skeleton, settings, max_intra=max_intra)
        return build_decoder(language, settings, max_intra=max_intra, seed=seed)
    glm = (
        language.skeleton()
        if shapes_only
        else language.backbone(pretrained=settings.init == "pretrained")
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        choose_parts(glm, settings)
    return glm.eval()


def build_decoder(
    language: LanguageModel, settings: DecoderSettings, *, max_intra: int, seed: int
) -> DecoderBackbone:
    """A language model that fills blanks, with what of it is trained, on the CPU.

    Args:
        language: which.
        settings: what is made of it.
        max_intra: rows of the table of intra-entity positions.
        seed: of new tokens, adapters and random weights.

    Raises:
        ConfigError: its files are missing, it has fewer layers than are to be kept, or it cannot be
            a backbone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = word_model(language, settings.init)
        return prepare_decoder(model, settings, max_intra=max_intra, seed=seed)


def prepare_decoder(
    model: Any, settings: DecoderSettings, *, max_intra: int, seed: int = 0
) -> DecoderBackbone:
    """Cut a model of transformers and say what of it is trained, in place.

    Raises:
        ConfigError: it has fewer layers than are to be kept, reads in two halves, or its layers are
            called otherwise than a LoRA preset knows.
    """
    if getattr(model.config, "is_encoder_decoder", False):
        raise ConfigError(
            f"{type(model).__name__}: an encoder-decoder; recsysllm needs a decoder, such as GPT-2 "
            "or LLaMA"
        )
    if settings.layers is not None:
        keep_layers(model, settings.layers, cut=settings.cut)
    backbone = DecoderBackbone(
        model, max_intra=max_intra, position_mode=settings.positions, seed=seed
    )
    choose_parts(backbone, settings)
    return backbone.eval()
