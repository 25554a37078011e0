"""Rows beside those of prompts: what needs no language model, on the same examples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from legos.systems.recsysllm.backbones.build import World
from legos.systems.recsysllm.baselines.methods import FrequentPhrase, RatingMeans
from legos.systems.recsysllm.baselines.rating_models import (
    RATING_MODELS,
    Kind,
    RatingModel,
    Ratings,
    train_rating_model,
)
from legos.systems.recsysllm.measure import Written, reference_text, text_row
from legos.systems.recsysllm.task_settings import SplitName
from legos.systems.recsysllm.tasks.examples import Instance
from legos.systems.recsysllm.tasks.review_rows import ReviewRows


class PlainRows:
    """Baselines of one data set; rating models are trained when they are first needed.

    Args:
        world: tables.
        seed: of the rating models.
    """

    def __init__(self, world: World, *, seed: int) -> None:
        self._world, self._seed, self._own = world, seed, world.settings.measure
        self._models: dict[Kind, RatingModel] = {}

    def __call__(self, instances: Sequence[Instance]) -> dict[str, dict[str, float]]:
        """Metrics by name of the baseline, for examples of one template.

        Args:
            instances: at least one; of kinds of answers without a baseline there is no row.
        """
        reviews, answer = self._world.families.reviews, instances[0].template.answer
        if reviews is None:
            return {}
        users = torch.tensor([instance.user for instance in instances])
        items = torch.tensor([instance.item for instance in instances])
        if answer in ("stars", "whole-stars"):
            if not known_ratings(reviews, "train").stars.numel():
                return {}
            found = {"user and item means (no model)": self._means(reviews, users, items)}
            for kind, title in RATING_MODELS.items():
                found[f"{title} (ids alone)"] = self._model(kind, reviews).predict(users, items)
            return {name: self._errors(instances, stars) for name, stars in found.items()}
        if answer not in ("headline", "explanation"):
            return {}
        row = self._phrase_row(reviews, answer, items, instances)
        return {} if row is None else {f"most frequent {answer} (no model)": row}

    def _errors(self, instances: Sequence[Instance], stars: Tensor) -> dict[str, float]:
        texts = [f"{value:.4f}" for value in stars.tolist()]
        row = text_row(self._world, Written(instances, texts, 1.0))
        return {name: row[name] for name in ("RMSE", "MAE")}

    def _means(self, reviews: ReviewRows, users: Tensor, items: Tensor) -> Tensor:
        catalogue = self._world.families.catalogue
        means = RatingMeans(
            *known_ratings(reviews, "train"),
            num_users=len(catalogue.users),
            num_items=len(catalogue.items),
            shrink=self._own.mean_shrink,
        )
        return means.predict(users, items, "user+item")

    def _model(self, kind: Kind, reviews: ReviewRows) -> RatingModel:
        if kind not in self._models:
            catalogue = self._world.families.catalogue
            self._models[kind] = train_rating_model(
                kind,
                known_ratings(reviews, "train"),
                known_ratings(reviews, "valid"),
                num_users=len(catalogue.users),
                num_items=len(catalogue.items),
                seed=self._seed,
                settings=self._own.rating_models,
            )
        return self._models[kind]

    def _phrase_row(
        self, reviews: ReviewRows, answer: str, items: Tensor, instances: Sequence[Instance]
    ) -> dict[str, float] | None:
        pairs = [
            (row, text.strip())
            for row in reviews.of("train").tolist()
            for text in [reference_text(self._world, row, answer)]
            if text.strip()
        ]
        if not pairs:
            return None
        phrase = FrequentPhrase(
            reviews.items[torch.tensor([row for row, _ in pairs])], [text for _, text in pairs]
        )
        texts = phrase.predict(items, by_item=True)
        row = text_row(self._world, Written(instances, texts, 1.0))
        return {name: value for name, value in row.items() if name != "complete rate"}


def known_ratings(reviews: ReviewRows, split: SplitName) -> Ratings:
    """The ratings of a split but for the unknown ones."""
    rows = reviews.of(split)
    rows = rows[~reviews.ratings[rows].isnan()]
    return Ratings(reviews.users[rows], reviews.items[rows], reviews.ratings[rows])
