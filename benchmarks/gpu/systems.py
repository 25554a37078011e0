"""Trainings of the three systems over synthetic data, as small or as large as one likes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from benchmarks.dire_setting import take_layers_out
from benchmarks.gpu.setting import RandomLanguageModel
from benchmarks.recsysllm_data import make_world
from benchmarks.shapes import Shape, make_interactions, make_items
from legos.config.train_schema import NegativesConfig, TrainConfig
from legos.data.batch import TrainingRows
from legos.data.interactions import Interactions
from legos.data.items import ItemField, ItemStore, LanguageInput
from legos.data.ragged import Ragged, from_lengths, join_rows
from legos.data.sampling import NegativeSampler
from legos.lm.states import TOKENS, StateReader, layer_name
from legos.recommender import build_recommender
from legos.registry import item_encoders, predictors, user_encoders
from legos.systems.bricks.recipe import BricksRecipe
from legos.systems.cllm4rec.batches import (
    ContentLM,
    InteractionLM,
    RecommendationPrompts,
    content_kind,
)
from legos.systems.cllm4rec.model import build_cllm4rec
from legos.systems.cllm4rec.recipe import Cllm4RecRecipe, TaskRows
from legos.systems.cllm4rec.settings import Cllm4RecConfig, Cllm4RecModel
from legos.systems.cllm4rec.stages import Task
from legos.systems.recsysllm.backbones.decoder import DecoderBackbone, build_backbone
from legos.systems.recsysllm.recipe import InfillRecipe, TrainingStream
from legos.systems.recsysllm.settings import RecsysllmConfig, RecsysllmModel
from legos.systems.recsysllm.world import World, position_rows

NEGATIVES, SEED = 4, 1
_WRITTEN = 2  # books that a model wrote for every user (GENRE)
_LORA = {"lora_rank": 8, "lora_dropout": 0.0}

PLACES: Mapping[Task, tuple[int, int]] = {
    "collaborative": (1, 0),
    "content": (1, 1),
    "recommendation": (2, 0),
}
"""Stage and part of CLLM4Rec's passes."""


@dataclass(frozen=True)
class Clicks:
    """Items, clicks and a language model that reads the items.

    Attributes:
        language: reads ids below its ``vocab_size``.
        shape: how many items, clicks and items a history.
        tokens: of an item's title.
        size: D of item and user vectors.
    """

    language: RandomLanguageModel
    shape: Shape
    tokens: int
    size: int = 64

    @cached_property
    def titles(self) -> Ragged:
        """Random ids, a title an item, half as long to as long as ``tokens``."""
        return self._texts(self.shape.items, self.tokens, seed=0)

    @cached_property
    def described(self) -> Ragged:
        """Titles and what a model wrote behind them, and then the items that it wrote (GENRE)."""
        written = self._texts(_WRITTEN * self.shape.impressions, self.tokens, seed=2)
        descriptions = self._texts(self.shape.items, 2 * self.tokens, seed=3)
        both = join_rows([self.titles, descriptions])
        lengths = torch.cat([both.lengths, written.lengths])
        return from_lengths(torch.cat([both.values, written.values]), lengths)

    @cached_property
    def interests(self) -> ItemStore:
        """What a model wrote of every user; a user an impression."""
        words = int(self.language.config.vocab_size)
        return ItemStore(
            fields={"interests": ItemField("interests", True, "words", words, 8)},
            texts={"interests": self._texts(self.shape.impressions, 8, seed=4)},
            categories={},
            num_items=self.shape.impressions,
        )

    @cached_property
    def interactions(self) -> Interactions:
        """One click and four others an impression."""
        return make_interactions(self.shape)

    @cached_property
    def interactions_with_written(self) -> Interactions:
        """Histories that end with the items a model wrote for their users."""
        plain, count = self.interactions, self.shape.impressions
        numbers = self.shape.items + torch.arange(_WRITTEN * count)
        written = from_lengths(numbers, torch.full((count,), _WRITTEN))
        return replace(plain, histories=join_rows([plain.histories, written]))

    def states(self, tokens: Ragged, layer: int) -> Ragged:
        """The inputs of a layer, float32, by the CPU."""
        found = StateReader(self.language.load(), layers=[layer])(tokens)
        return Ragged(found[layer_name(layer)], tokens.offsets)

    def _texts(self, count: int, longest: int, *, seed: int) -> Ragged:
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.randint(longest // 2, longest + 1, (count,), generator=generator)
        words = int(self.language.config.vocab_size)
        values = torch.randint(3, words, (int(lengths.sum()),), generator=generator)
        return from_lengths(values, lengths)

    def known(self, items: int) -> SimpleNamespace:
        """Everything, as if training had seen it."""
        return SimpleNamespace(
            items=torch.ones(items, dtype=torch.bool),
            users=torch.ones(self.shape.impressions, dtype=torch.bool),
        )


def click_training(batch_size: int, **more: Any) -> TrainConfig:
    """Against four negatives, clipped, by Adam."""
    return TrainConfig(
        negatives=NegativesConfig(count=NEGATIVES), lr=1e-4, clip=1.0, batch_size=batch_size, **more
    )


def clicks_recipe(
    accelerator: Accelerator,
    model: torch.nn.Module,
    store: ItemStore,
    data: Interactions,
    train: TrainConfig,
    profiles: ItemStore | None = None,
) -> BricksRecipe:
    """A training of bricks, its data on the accelerator's device."""
    device = accelerator.device
    data = data.to(device)
    sampler = NegativeSampler(
        data, num_items=store.num_items, strategy="impression", count=NEGATIVES, seed=SEED
    )
    recipe = BricksRecipe(
        accelerator, model, store.to(device), TrainingRows(data, sampler), train,
        profiles=None if profiles is None else profiles.to(device),
    )  # fmt: skip
    recipe.model.train()
    return recipe


def word_recipe(
    accelerator: Accelerator, clicks: Clicks, item: Mapping[str, Any], user: Mapping[str, Any]
) -> BricksRecipe:
    """A model that learns its own words, as NAML and NRMS."""
    store = make_items(clicks.shape)
    choice = _choice(clicks.size, item, user)
    model = build_recommender(choice, store, known=clicks.known(len(store)), seed=SEED)
    train = click_training(clicks.shape.impressions)
    return clicks_recipe(accelerator, model, store, clicks.interactions, train)


def dire_recipe(
    accelerator: Accelerator,
    clicks: Clicks,
    layer: int,
    language: Mapping[str, LanguageInput],
    *,
    batch_size: int,
    once: bool = False,
    more: Mapping[str, Any] | None = None,
    page_size: int = 0,
    made_there: bool = False,
    without_layers: bool = False,
) -> BricksRecipe:
    """NAML over a language model that learns by LoRA above a layer (DIRE).

    Args:
        clicks: the data.
        layer: at which the language model is cut; 0: not at all.
        language: what it reads of the items.
        batch_size: clicks a step.
        once: with what a language model wrote of items and users, and the items it wrote (GENRE).
        more: settings of the item encoder.
        page_size: items encoded at once; 0: all.
        made_there: draw the weights on the device; others than on the CPU, but at once.
        without_layers: leave what lies around the language model's layers alone.
    """
    model = clicks.language
    item = {
        "name": "language_model", "model": model.source, "dtype": model.dtype, "layer": layer,
        "attention_size": 64, **_LORA, **(more or {}),
    }  # fmt: skip
    user: dict[str, Any] = {"name": "additive_attention"}
    if once:
        user = {"name": "profile", "history": user, "profile": {"name": "pooling"}}
    count = clicks.shape.items + (_WRITTEN * clicks.shape.impressions if once else 0)
    store = ItemStore(fields={}, texts={}, categories={}, num_items=count, language=language)
    profiles = clicks.interests if once else None
    known, where = clicks.known(count), accelerator.device if made_there else torch.device("cpu")
    with where:
        recommender = build_recommender(
            _choice(clicks.size, item, user), store, known=known, seed=SEED, profiles=profiles,
            language_model=model,
        )  # fmt: skip
    if without_layers:
        take_layers_out(recommender.item_encoder.get_submodule("language_model"))
    data = clicks.interactions_with_written if once else clicks.interactions
    train = click_training(batch_size, item_page_size=page_size)
    return clicks_recipe(accelerator, recommender, store, data, train, profiles)


def read_of(layer: int, read: LanguageInput) -> dict[str, LanguageInput]:
    """What a language model cut at a layer reads, by its name."""
    return {layer_name(layer) if layer else TOKENS: read}


def _choice(size: int, item: Mapping[str, Any], user: Mapping[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(
        hidden_size=size,
        item=item_encoders.validate(dict(item)),
        user=user_encoders.validate(dict(user)),
        predictor=predictors.validate({"name": "dot"}),
    )


@dataclass(frozen=True)
class Texts:
    """Users, items and texts for CLLM4Rec.

    Attributes:
        language: its backbone.
        users, items, reviews: how many.
        words: of a review, at most.
        batch_size: users or texts a step.
    """

    language: RandomLanguageModel
    users: int
    items: int
    reviews: int
    words: int
    batch_size: int

    def recipe(self, accelerator: Accelerator, train: str) -> Cllm4RecRecipe:
        """All passes; of the language model nothing (``frozen``) or ``lora`` learns."""
        settings = Cllm4RecConfig.model_validate(
            {"backbone": {"train": train, "dtype": self.language.dtype}, "max_length": 512}
        )
        built = build_cllm4rec(
            self.language, settings, users=self.users, items=self.items, seed=SEED
        )
        generator = torch.Generator().manual_seed(SEED)
        order = torch.rand(self.users, self.items, generator=generator).argsort(1)
        owned = order[:, : min(self.items, 24)].sort(1).values  # distinct, ascending
        items = from_lengths(owned.flatten(), torch.full((self.users,), owned.shape[1]))
        rows: dict[Task, TaskRows] = {
            "collaborative": InteractionLM(items, built.templates, settings, seed=SEED),
            "recommendation": RecommendationPrompts(items, built.templates, settings, seed=SEED),
            "content": self._reviews(built.templates, settings, generator),
        }
        own = {"batch_size": self.batch_size, "clip": 1.0, "seed": SEED}
        config = TrainConfig.model_validate({**Cllm4RecModel.training, **own})
        recipe = Cllm4RecRecipe(accelerator, built.model, rows, config)
        recipe.replicas.module.train()
        return recipe

    def _reviews(
        self, templates: Any, settings: Cllm4RecConfig, generator: torch.Generator
    ) -> ContentLM:
        def drawn(high: int, count: int = self.reviews) -> Tensor:
            return torch.randint(high, (count,), generator=generator)

        lengths = 4 + drawn(self.words - 3)
        words = drawn(int(self.language.config.vocab_size), int(lengths.sum()))
        kinds = torch.full((self.reviews,), content_kind("review"))
        texts = from_lengths(words, lengths)
        return ContentLM(kinds, drawn(self.users), drawn(self.items), texts, templates, settings)


def at_task(recipe: Cllm4RecRecipe, task: Task) -> Cllm4RecRecipe:
    """The same training at the first step of a task's stage, in a pass of the task."""
    progress = recipe.progress
    progress.stage, progress.part = PLACES[task]
    progress.step -= recipe.span()[0]
    return recipe


class Prompts:
    """Titles and users for RecSysLLM.

    Args:
        language: its backbone.
        items, users: how many.
        batch_size: examples a step.
    """

    def __init__(
        self, language: RandomLanguageModel, *, items: int, users: int, batch_size: int
    ) -> None:
        tasks = {"horizons": {"by": "count"}}
        self.settings = RecsysllmConfig.model_validate({"tasks": tasks})
        self.language = language
        self.world: World = make_world(language, self.settings, items=items, users=users)
        own = {"batch_size": batch_size, "seed": SEED, "metric": "nDCG@10"}
        self.train = TrainConfig.model_validate({**RecsysllmModel.training, **own})

    def backbone(self, train: str = "paper") -> DecoderBackbone:
        """The language model with blanks, on the CPU; LoRA as in the paper, or all (``full``)."""
        settings: dict[str, Any] = {"train": train, "dtype": self.language.dtype, "init": "random"}
        if train == "paper":
            settings["lora_dropout"] = 0.0
        rows = position_rows(self.settings, self.world.pool)
        found = build_backbone(
            self.language, type(self.settings.backbone).model_validate(settings), rows=rows,
            seed=SEED,
        )  # fmt: skip
        assert isinstance(found, DecoderBackbone)
        return found

    def recipe(self, accelerator: Accelerator) -> InfillRecipe:
        """Prompts and histories with blanks, by LoRA."""
        backbone = self.backbone()
        stream = TrainingStream(self.world, backbone.special, self.train)
        recipe = InfillRecipe(accelerator, backbone, stream, self.settings, self.train)
        recipe.replicas.module.train()
        return recipe
