"""Rows of baselines, on the same examples as a prompt's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from legos.systems.recsysllm.baselines import (
    RATING_MODELS,
    Kind,
    RatingModel,
    Ratings,
    frequent_phrases,
    mean_ratings,
    train_rating_model,
)
from legos.systems.recsysllm.explainers import (
    EXPLAINERS,
    Explainer,
    ExplainerKind,
    Sentences,
    train_explainer,
)
from legos.systems.recsysllm.measure import text_row
from legos.systems.recsysllm.prompts import Instance
from legos.systems.recsysllm.settings import SplitName
from legos.systems.recsysllm.tasks.review_tasks import ReviewRows
from legos.systems.recsysllm.world import World


class PlainRows:
    """Rows of baselines; models are trained when they are first needed."""

    def __init__(self, world: World, *, seed: int) -> None:
        self._world, self._seed, self._own = world, seed, world.settings.measure
        self._models: dict[Kind, RatingModel] = {}
        self._explainers: dict[ExplainerKind, Explainer] = {}
        catalogue = world.families.catalogue
        self._counts = {"num_users": len(catalogue.users), "num_items": len(catalogue.items)}

    def __call__(self, instances: Sequence[Instance]) -> dict[str, dict[str, float]]:
        """Metrics by name of the baseline, for examples of one template, at least one.

        Of kinds of answers without a baseline there is no row.
        """
        reviews, answer = self._world.families.reviews, instances[0].template.answer
        if reviews is None:
            return {}
        users = torch.tensor([instance.user for instance in instances])
        items = torch.tensor([instance.item for instance in instances])
        train = Ratings.of(reviews, "train")
        if answer in ("stars", "whole-stars") and train.stars.numel():
            shrink = self._own.mean_shrink
            means = mean_ratings(train, (users, items), shrink=shrink, **self._counts)
            rows = {"user and item means (no model)": self._errors(instances, means)}
            for kind, title in RATING_MODELS.items():
                model = self._model(kind, train, Ratings.of(reviews, "valid"))
                stars = model.predict(users, items)
                rows[f"{title} (ids alone)"] = self._errors(instances, stars)
            return rows
        if answer not in ("headline", "explanation"):
            return {}
        numbers = reviews.of("train")
        said = reviews.headlines if answer == "headline" else [
            "" if one is None else one.sentence for one in reviews.explanations
        ]  # fmt: skip
        texts = [said[row].strip() for row in numbers.tolist()]
        if not any(texts):
            return {}
        phrases = frequent_phrases(reviews.items[numbers], texts, items)
        rows = {f"most frequent {answer} (no model)": text_row(self._world, instances, phrases)}
        return rows | (self._explained(reviews, instances) if answer == "explanation" else {})

    def _explained(
        self, reviews: ReviewRows, instances: Sequence[Instance]
    ) -> dict[str, dict[str, float]]:
        """Rows of models that write from ids; with the feature where the prompt names it."""
        users = torch.tensor([instance.user for instance in instances])
        items = torch.tensor([instance.item for instance in instances])
        hinted, rows = "feature" in instances[0].template.slots, {}
        features = [instance.feature for instance in instances]
        for kind in self._own.explainers:
            if kind != "peter+" or hinted:
                texts = self._explainer(kind, reviews).write(users, items, features)
                rows[EXPLAINERS[kind]] = text_row(self._world, instances, texts)
        return rows

    def _explainer(self, kind: ExplainerKind, reviews: ReviewRows) -> Explainer:
        if kind not in self._explainers:
            train, valid = (explained(reviews, split) for split in ("train", "valid"))
            own = self._own.explanation_models
            self._explainers[kind] = train_explainer(
                kind, train, valid, seed=self._seed, settings=own, **self._counts
            )
        return self._explainers[kind]

    def _errors(self, instances: Sequence[Instance], stars: Tensor) -> dict[str, float]:
        texts = [f"{value:.4f}" for value in stars.tolist()]
        row = text_row(self._world, instances, texts)
        return {name: row[name] for name in ("RMSE", "MAE")}

    def _model(self, kind: Kind, train: Ratings, valid: Ratings) -> RatingModel:
        if kind not in self._models:
            own = self._own.rating_models
            self._models[kind] = train_rating_model(
                kind, train, valid, seed=self._seed, settings=own, **self._counts
            )
        return self._models[kind]


def explained(reviews: ReviewRows, split: SplitName) -> Sentences:
    """The explanations of a split."""
    found = [(row, reviews.explanations[row]) for row in reviews.of(split).tolist()]
    known = [(row, one) for row, one in found if one is not None]
    rows = torch.tensor([row for row, _ in known], dtype=torch.int64)
    return Sentences(
        reviews.users[rows], reviews.items[rows], reviews.ratings[rows],
        [one.sentence for _, one in known], [one.feature for _, one in known],
    )  # fmt: skip
