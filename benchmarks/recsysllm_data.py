"""What ``benchmarks/recsysllm.py`` measures on: a language model, a catalogue, users, prompts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from legos.config.train_schema import TrainConfig
from legos.data.ragged import from_lengths
from legos.data.tables import Tables
from legos.errors import ConfigError
from legos.lm.load import LanguageModel
from legos.lm.locate import locate, packaged
from legos.lm.settings import LanguageModelSource
from legos.systems.recsysllm.automaton import Automaton, EntityPool
from legos.systems.recsysllm.backbones.decoder import DecoderBackbone, build_backbone
from legos.systems.recsysllm.catalogue import Catalogue, item_names
from legos.systems.recsysllm.positions import Examples
from legos.systems.recsysllm.prompts import builtin_prompts
from legos.systems.recsysllm.settings import DecoderSettings, RecsysllmConfig, RecsysllmModel
from legos.systems.recsysllm.tasks.candidates import Candidates
from legos.systems.recsysllm.tasks.events import Sequences, unseen_items
from legos.systems.recsysllm.tasks.user_tasks import DirectTask, SequentialTask
from legos.systems.recsysllm.units import UnitTokenizer
from legos.systems.recsysllm.world import TaskFamilies, World, open_world, position_rows

ITEMS, USERS, NEGATIVES, SEED = 12_101, 4_000, 99, 0  # as many items as Beauty has, and P5's 99
_BRANDS = 2_700  # first words of Beauty's titles that differ
_LISTED, _UNLISTED = "sequential-7", "sequential-2"  # prompts with and without candidates


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        layers: of the language model.
        users: prompts that are searched, and scored, at once.
        listed_users: the same for prompts that list their candidates.
        steps: of training a turn.
        batch_size: examples a step.
        rounds: turns of each side.
        random: a small language model with random weights, else the pretrained one.
    """

    layers: int
    users: int
    listed_users: int
    steps: int
    batch_size: int
    rounds: int
    random: bool


QUICK = Scale(layers=2, users=4, listed_users=1, steps=2, batch_size=32, rounds=2, random=True)
FULL = Scale(layers=4, users=2, listed_users=1, steps=2, batch_size=32, rounds=2, random=False)
_SMALL = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 2}
_SMOLLM2 = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30}


def open_language_model(scale: Scale) -> tuple[LanguageModel, str]:
    """SmolLM2, or random weights; and what to say of it."""
    if not scale.random:
        try:
            source = packaged("smollm2")
            locate(source)
            return LanguageModel(source), "SmolLM2-135M, pretrained"
        except ConfigError:
            pass
    size = _SMALL if scale.random else _SMOLLM2
    shape: dict[str, Any] = {
        "model_type": "llama",
        "vocab_size": 30_522,
        "num_attention_heads": size["hidden_size"] // 64,
        "num_key_value_heads": size["hidden_size"] // 64,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
        **size,
    }
    source = LanguageModelSource(name="llama", random=True, shape=shape, tokenizer="minilm")
    return LanguageModel(source), f"a LLaMA of width {size['hidden_size']}, random weights"


def make_titles(tokenizer: Any, count: int, *, seed: int) -> list[str]:
    """As many words a title as Beauty's have, of one to three of the vocabulary's in one piece."""
    generator = np.random.default_rng(seed)
    words = sorted(word.lstrip("Ġ") for word in tokenizer.get_vocab())
    words = [word for word in dict.fromkeys(words) if word.isascii() and word.isalpha()]
    words = [word for word in words if len(word) > 2]
    order = generator.permutation(len(words))
    common = 1.0 / np.arange(1, len(words) + 1)  # Zipf's law
    lengths = np.exp(generator.normal(2.2, 0.45, count)).clip(1, 30).astype(int)
    pieces = generator.choice([1, 2, 3], int(lengths.sum()), p=[0.8, 0.15, 0.05])
    drawn = order[generator.choice(len(words), int(pieces.sum()), p=common / common.sum())]
    glued = ["".join(words[word] for word in own) for own in np.split(drawn, pieces.cumsum()[:-1])]
    shares = 1.0 / np.arange(1, _BRANDS + 1) ** 0.8
    brands = order[-1 - generator.choice(_BRANDS, count, p=shares / shares.sum())]
    edges = [0, *lengths.cumsum().tolist()]
    return [
        " ".join([words[brand].title(), *glued[begin:end]])
        for brand, begin, end in zip(brands.tolist(), edges[:-1], edges[1:], strict=True)
    ]


def make_world(
    language: LanguageModel,
    settings: RecsysllmConfig,
    *,
    items: int = ITEMS,
    users: int = USERS,
) -> World:
    """So many synthetic titles and users of 5 to 30 purchases; no reviews."""
    generator = torch.Generator().manual_seed(SEED)
    titles, counts = item_names(
        make_titles(language.tokenizer, items, seed=SEED), [""] * items, max_words=30
    )
    nothing = [""] * items
    catalogue = Catalogue(
        titles, [f"user_{user}" for user in range(users)], nothing, nothing, counts
    )
    lengths = (5 + torch.empty(users).exponential_(1 / 4, generator=generator)).long().clamp(max=30)
    events = torch.rand(users, items, generator=generator).topk(30, 1).indices  # no item twice
    bought = from_lengths(events[torch.arange(30) < lengths[:, None]], lengths)
    times = from_lengths(torch.full_like(bought.values, -1), lengths)
    sequences = Sequences(torch.arange(users), bought, times, items)
    prompts, own = builtin_prompts(), settings.tasks
    tasks = [
        kind(sequences, catalogue, prompts, own, seed=SEED) for kind in (SequentialTask, DirectTask)
    ]
    families = TaskFamilies(
        catalogue, sequences, None, {task.family: task for task in tasks}, {}, prompts, own, SEED
    )
    tokenizer = UnitTokenizer(language.tokenizer)
    pool = EntityPool(tokenizer, catalogue.entities())
    return World(settings, families, tokenizer, pool, Automaton(pool.trie(), settings.positions))


class Setting:
    """A language model and users with prompts.

    Args:
        scale: how much.
        data: folder of tables split leave-last-out; None: synthetic ones.

    Attributes:
        says: what is measured, in words.
    """

    def __init__(self, scale: Scale, data: Path | None) -> None:
        self.scale = scale
        self.settings = RecsysllmConfig.model_validate({"tasks": {"horizons": {"by": "count"}}})
        own = {"batch_size": scale.batch_size, "lr": 1e-4, "seed": 0}
        self.train = TrainConfig.model_validate({**RecsysllmModel.training, **own})
        self.language, says = open_language_model(scale)
        self.world = (
            make_world(self.language, self.settings)
            if data is None
            else open_world(Tables.load(data), self.language, self.settings, seed=SEED)
        )
        self.rows = position_rows(self.settings, self.world.pool)
        count = len(self.world.families.catalogue.items)
        lengths = self.world.pool.surfaces("item", torch.arange(count), space=True).lengths
        self.says = (
            f"{says}, {scale.layers} layers; {count:,} "
            f"{'synthetic titles' if data is None else f'titles of {data}'} of "
            f"{int(lengths.min())} to {int(lengths.max())} tokens, mean "
            f"{float(lengths.double().mean()):.1f}"
        )

    def backbone(self, train: str) -> DecoderBackbone:
        """The language model with blanks; LoRA as in training, or (``full``) as it is."""
        own = DecoderSettings.model_validate(
            {"layers": self.scale.layers, "train": train,
             "init": "random" if self.language.source.random else "pretrained"}
        )  # fmt: skip
        found = build_backbone(self.language, own, rows=self.rows, seed=SEED)
        assert isinstance(found, DecoderBackbone)
        return found

    def candidates(self) -> Candidates:
        """The held-out item and 99 others of the first users, shuffled nowhere."""
        sequences = self.world.families.sequences
        rows = torch.arange(len(sequences))
        others = unseen_items(
            sequences.users, sequences.seen(), num_items=sequences.num_items, count=NEGATIVES,
            seed=SEED, epoch=0,
        )  # fmt: skip
        items = torch.cat([sequences.targets("test")[:, None], others], 1)
        return Candidates(sequences.users[rows], items, "")

    def prompts(
        self, backbone: DecoderBackbone, users: int, candidates: Candidates | None
    ) -> Examples:
        """Part A of the first users' prompts, with or without the candidates in it."""
        task = self.world.families.users["sequential"]
        rows = torch.arange(users)
        name = _UNLISTED if candidates is None else _LISTED
        instances = task.evaluate(rows, name, "test", candidates)
        own = self.settings.tasks.model_copy(update={"max_tokens": 4096})
        return self.world.examples(instances, backbone.special, own).prompts()
