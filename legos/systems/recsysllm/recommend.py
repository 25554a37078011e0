"""RecSysLLM as a recommender: the most likely items, ratings, sentences, headlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from math import nan
from threading import RLock
from typing import Literal, Self

import torch
from torch import Tensor

from legos.data.new_items import NewItems
from legos.data.ragged import Ragged
from legos.errors import ConfigError, DataError
from legos.evaluation.rank import Best
from legos.metrics.generation import FEWEST_STARS, MOST_STARS, parse_rating
from legos.sharing import ALONE
from legos.systems.protocol import Readers
from legos.systems.recsysllm.automaton import Automaton, EntityPool
from legos.systems.recsysllm.backbones.decoder import Backbone
from legos.systems.recsysllm.catalogue import ITEM, Catalogue, further_names
from legos.systems.recsysllm.measure import (
    PromptMeasure,
    chosen_templates,
    default_templates,
    main_template,
)
from legos.systems.recsysllm.prompts import Answer, Family, Instance, Template
from legos.systems.recsysllm.tasks.user_tasks import next_item_prompts
from legos.systems.recsysllm.units import Unit, plain
from legos.systems.recsysllm.world import World
from legos.workplace.workplace import Workplace


class RecsysllmRecommender:
    """A trained RecSysLLM, see :class:`legos.systems.protocol.Recommending`.

    Lists are those of its test: found by the prompt that row `all` is measured by. A score is
    the log-probability of an item's name. One thread at a time uses the language model.

    Args:
        workplace: of the run.
        backbone: with trained weights, in evaluation mode.
        world: tasks and names of the tables.
    """

    similarity: Literal["dot", "cosine"] | None = None

    def __init__(self, workplace: Workplace, backbone: Backbone, world: World) -> None:
        self.workplace, self.backbone = workplace, backbone
        self.template = main_template(world.families.prompts, chosen_templates(world))
        self.offered, self._lock = workplace.tables.offered.cpu(), RLock()
        self._take(world)

    def _take(self, world: World) -> None:
        catalogue = world.families.catalogue
        guest = f"user_{len(catalogue.users)}"  # as users whom training did not know
        self.world = world
        self.catalogue: Catalogue = replace(catalogue, users=[*catalogue.users, guest])
        self._measure = PromptMeasure(
            self.workplace.accelerator, self.backbone, world, self.offered, ALONE
        )

    @property
    def reads(self) -> Sequence[str]:
        """Fields that describe an item: its title."""
        return ("title",)

    @property
    def history_length(self) -> int:
        """Number of newest items of a history that a prompt contains."""
        return self.world.settings.tasks.max_past

    def top(self, readers: Readers, count: int, excluded: Ragged) -> Best:
        """The best items of each reader, found as ``measure.search`` says."""
        with self._lock, torch.no_grad():
            return self._measure.best_items(self._prompts(readers), excluded, count)

    def scores(self, readers: Readers, items: Tensor) -> Tensor:
        """Log-probabilities of the names of items ``(C,)`` int64: ``(R, C)`` on the CPU."""
        with self._lock:
            return self._measure.scores(self._prompts(readers), items)

    def item_vectors(self) -> Tensor:
        """Raise ConfigError: items are texts."""
        raise self._no_vectors("item")

    def reader_vectors(self, readers: Readers) -> Tensor:
        """Raise ConfigError: readers are texts."""
        raise self._no_vectors("user")

    def _no_vectors(self, kind: str) -> ConfigError:
        return ConfigError(
            f"model {self.workplace.config.model.name}: recsysllm writes names of items and has no "
            f"{kind} vectors; recommend(history=[...]) says what it takes to go with items"
        )

    def extended(self, items: NewItems) -> Self:
        """Return a recommender with further items, named by their titles.

        Raises:
            ConfigError: items are named by numbers or semantic codes.
            DataError: an item has no title.
        """
        own, families = self.world.settings.tasks, self.world.families
        if own.item_text != "title":
            raise ConfigError(
                f"model {self.workplace.config.model.name}: model.tasks.item_text "
                f"{own.item_text} names items by numbers or codes that a new item does not have; "
                "train again with the item"
            )
        titles = items.texts.get("title", [""] * len(items))
        for item, title in zip(items.ids, titles, strict=True):
            if not title.strip():
                raise DataError(f"new items: {item!r} has no title, which is its name here")
        known = families.catalogue
        nothing = [""] * len(items)
        names = further_names(known.items, titles, max_words=own.max_name_words)
        catalogue = replace(
            known,
            items=[*known.items, *self._fitting(names)],
            brands=[*known.brands, *items.texts.get("brand", nothing)],
            prices=[*known.prices, *items.texts.get("price", nothing)],
            of_items=[
                replace(each, values=[*each.values, *items.texts.get(each.field, nothing)])
                for each in known.of_items
            ],
        )
        pool = EntityPool(self.world.tokenizer, catalogue.entities())
        automaton = Automaton(pool.trie(), self.world.settings.positions)
        other = copy(self)
        new = torch.ones(len(items), dtype=torch.bool)
        other.offered = torch.cat([self.offered, new])
        other._take(
            replace(
                self.world,
                families=replace(families, catalogue=catalogue),
                pool=pool,
                automaton=automaton,
            )
        )
        return other

    def _fitting(self, names: Sequence[str]) -> list[str]:
        """Shorten names that are longer than any in training."""
        longest = self.world.pool.longest(ITEM)
        kept = []
        for name in names:
            words = name.split()
            while len(words) > 1 and self._tokens(" ".join(words)) > longest:
                words.pop()
            kept.append(" ".join(words))
        names = further_names(self.world.families.catalogue.items, kept, max_words=2**31)
        for name in names:
            if self._tokens(name) > longest:  # a number tells it from another one
                raise DataError(
                    f"new items: title {name!r} has more than the {longest} tokens of the longest "
                    "name that was trained with; give a shorter one"
                )
        return names

    def _tokens(self, name: str) -> int:
        return int(self.world.tokenizer.encode_texts([name, f" {name}"]).lengths.max())

    def rate(self, user: int, item: int) -> float:
        """Predict the rating of an item by a user; the training mean if no number is generated.

        Raises:
            ConfigError: the tables have no reviews.
        """
        values = {"item": self.catalogue.item(item)}
        written = parse_rating(self._written("rating", "stars", user, values, item))
        if written is None:
            reviews = self.world.families.reviews
            return 3.0 if reviews is None else reviews.train_mean()
        return float(min(max(written, FEWEST_STARS), MOST_STARS))

    def explain(self, user: int, item: int) -> str:
        """Generate a sentence about an item for a user; errors as :meth:`rate`."""
        values = {"item": self.catalogue.item(item)}
        return self._written("explanation", "explanation", user, values, item)

    def headline(self, review: str, user: int) -> str:
        """Generate a headline for a user's review; errors as :meth:`rate`."""
        words = review.split()[: self.world.settings.tasks.max_body_words]
        return self._written("review", "headline", user, {"body": [plain(" ".join(words))]}, 0)

    def _written(
        self,
        family: Family,
        answer: Answer,
        user: int,
        values: Mapping[str, Sequence[Unit]],
        item: int,
    ) -> str:
        """Fill the blank of a family's prompt greedily."""
        template = self._asking(family, answer, frozenset(values) | {"user", "user_name"})
        prompt = self.catalogue.fill(template, values, user=user, item=item)
        example = Instance(template, prompt, [plain("-")], "-", user, item, stars=nan)
        with self._lock, torch.no_grad():
            return self._measure.written([example])[0][0]

    def _asking(self, family: Family, answer: Answer, slots: frozenset[str]) -> Template:
        """The seen template of a family that tests use, or the last one with these slots."""
        prompts = self.world.families.prompts
        if family not in self.world.families.about_reviews:
            raise ConfigError(
                f"model {self.workplace.config.model.name}: its tables have no reviews, so that it "
                f"has learned no {family}; make tables with reviews and train again"
            )
        seen = [t for t in prompts.of(family, seen=True) if t.answer == answer and t.slots <= slots]
        tested = [template for template in default_templates(prompts) if template in seen]
        return [*seen, *tested][-1]

    def _prompts(self, readers: Readers) -> list[Instance]:
        """The prompts that a test would use for readers."""
        sequences = self.world.families.sequences
        users, tasks = readers.users, self.world.settings.tasks
        rows = torch.searchsorted(sequences.users, users).clamp(max=max(0, len(sequences) - 1))
        known = sequences.users[rows] == users
        pasts = [readers.histories.row(at).tolist() for at in range(len(readers))]
        return next_item_prompts(
            self.template,
            self.catalogue,
            list(zip(users.tolist(), pasts, strict=True)),
            rows.where(known, len(sequences) + users),
            most=tasks.max_past,
            seed=self.world.families.seed,
        )
