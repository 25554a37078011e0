"""A split measured: row `all` beside other models, then a row for every prompt that was chosen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from legos.data.items import Interactions
from legos.errors import ConfigError
from legos.evaluation.measure import SplitResult, known_catalogue
from legos.metrics.beyond import ALL, beyond_accuracy_of_lists
from legos.metrics.full_ranking import counted_metrics, listed, require_possible
from legos.systems.recsysllm.backbones.decoder import Backbone
from legos.systems.recsysllm.baselines import (
    RATING_MODELS,
    Kind,
    RatingModel,
    Ratings,
    frequent_phrases,
    mean_ratings,
    train_rating_model,
)
from legos.systems.recsysllm.measure import (
    VALID,
    NextItems,
    PromptMeasure,
    chosen_templates,
    default_templates,
    is_next,
    main_template,
    some_of,
    text_row,
)
from legos.systems.recsysllm.model_settings import MeasureSettings
from legos.systems.recsysllm.prompts import Instance, Template
from legos.systems.recsysllm.settings import SplitName
from legos.systems.recsysllm.tasks.candidates import (
    Candidates,
    frozen_candidates,
    split_of_candidates,
    table_candidates,
)
from legos.systems.recsysllm.tasks.events import Sequences
from legos.systems.recsysllm.world import TaskFamilies, World
from legos.workplace.workplace import Workplace

Row = dict[str, float]


@dataclass
class _Rows:
    values: dict[str, Row] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, name: str, row: Row, groups: int, available: int) -> None:
        """A row and of how many users or reviews it is, of how many there are.

        Raises:
            DataError: HR and nDCG of the row cannot be.
        """
        require_possible(row, source=name)
        self.values[name] = row
        self.counts[name] = {"groups": groups, "available": available}


class _NextRow(NamedTuple):
    """Metrics over all items, those of each user, and what they are of."""

    row: Row
    per_user: dict[str, np.ndarray]
    found: NextItems


class SplitMeasure:
    """Measures splits of one workplace.

    Args:
        place: configuration and tables.
        backbone: on the device; put into evaluation mode for the time of a call.
        world: tables and tokenizer.

    Raises:
        ConfigError: prompts that are not there, or lists of candidates that are too long for one.
    """

    def __init__(self, place: Workplace, backbone: Backbone, world: World) -> None:
        self._place, self._backbone, self._world = place, backbone, world
        self._measure = PromptMeasure(place.accelerator, backbone, world, place.tables.offered)
        self._plain = PlainRows(world, seed=place.config.exp.train.seed)
        for template in chosen_templates(world):
            if template.answer == "item" and not is_next(template):
                self._measure.refuse_long_lists(template, "test", self._frozen("test"))

    def __call__(self, interactions: Interactions, *, thorough: bool) -> SplitResult | None:
        """Measure a split; without ``thorough`` only what early stopping watches.

        Processes share the prompts; the result is in the main one, None in the others.

        Raises:
            ConfigError: it is neither valid nor test of a leave-last-out table.
        """
        training = self._backbone.training
        self._backbone.eval()
        begin = time.perf_counter()
        try:
            result = self._measured(interactions, thorough, begin)
        finally:
            self._backbone.train(training)
        return result if self._place.accelerator.is_main_process else None

    def _measured(self, interactions: Interactions, thorough: bool, begin: float) -> SplitResult:
        world, own = self._world, self._world.settings.measure
        split, rows_of = which_split(world.families.sequences, interactions)
        rows = some_of(rows_of.unique(), own.users if thorough else own.valid_users, seed=own.seed)
        chosen = chosen_templates(world)
        prompts = world.families.prompts
        main = main_template(prompts, chosen if thorough else default_templates(prompts))
        found = _Rows()
        whole = self._next(main, rows, split, thorough=thorough)
        found.add(ALL, dict(whole.row), len(rows), len(rows_of))
        unlisted = np.isnan(next(iter(whole.per_user.values()))).sum()
        found.counts[ALL] |= {"unlisted_clicks": int(unlisted)}
        if thorough:
            self._beyond(found.values[ALL], whole.found.lists)
            for template in chosen:
                self._add(found, template, main, split, rows, whole, len(rows_of))
        everyone = {}  # of every user of the split, NaN if not measured
        place = torch.searchsorted(rows, rows_of).clamp(max=len(rows) - 1)
        measured = (rows[place] == rows_of).numpy()
        for name, values in whole.per_user.items():
            everyone[name] = np.where(measured, values[place.numpy()], np.nan)
        seconds = time.perf_counter() - begin
        return SplitResult(found.values, found.counts, everyone, None, seconds)

    def _next(
        self, template: Template, rows: Tensor, split: SplitName, *, thorough: bool
    ) -> _NextRow:
        config = self._place.config.exp
        exclude = config.evaluate.exclude != "nothing"
        ranked = self._measure.next_items(template, rows, split, exclude=exclude, thorough=thorough)
        targets = self._world.families.sequences.targets(split)[rows].numpy()
        pasts = [self._measure.past(row, split) if exclude else [] for row in rows.tolist()]
        clicks = np.array(
            [t not in past for t, past in zip(targets, pasts, strict=True)], dtype=int
        )
        names = list(config.evaluate.metrics) if thorough else []
        names = list(dict.fromkeys([*names, config.train.metric]))
        positives = listed(ranked.lists, targets[clicks == 1], clicks)
        count = int(self._place.tables.offered.sum())
        sizes = np.array([count - len(past) for past in pasts])
        found = counted_metrics(positives, clicks, sizes, names)
        row = {name: found.values[name] for name in names}
        per_user = {name: found.per_group[name] for name in names}
        return _NextRow(row, per_user, ranked)

    def _add(
        self,
        found: _Rows,
        template: Template,
        main: Template,
        split: SplitName,
        rows: Tensor,
        whole: _NextRow,
        users: int,
    ) -> None:
        """The row of one prompt."""
        name = row_name(self._world.families, template)
        if is_next(template):
            own = whole if template == main else self._next(template, rows, split, thorough=True)
            valid = own.found.valid_rate
            found.add(name, own.row | ({} if valid is None else {VALID: valid}), len(rows), users)
        elif template.answer == "item":
            frozen = self._frozen(split)
            row = self._measure.candidates(template, rows, split, frozen)
            found.add(name, row, len(rows), users)
        else:
            self._add_written(found, name, template, split, rows)

    def _add_written(
        self, found: _Rows, name: str, template: Template, split: SplitName, rows: Tensor
    ) -> None:
        families, own = self._world.families, self._world.settings.measure
        if template.family in families.users:
            available = len(families.sequences)
            instances = families.users[template.family].evaluate(rows, template.name, split)
        else:
            task = families.about_reviews[template.family]
            reviews = task.evaluation_rows(split, template.name)
            available = len(reviews)
            instances = task.evaluate(some_of(reviews, own.users, seed=own.seed), template.name)
        if not instances:
            return
        texts, complete = self._measure.written(instances)
        row = {**text_row(self._world, instances, texts), "complete rate": complete}
        found.add(name, row, len(instances), available)
        asked = name.rpartition(", ")[0].rpartition(": ")[2]
        for title, plain in self._plain(instances).items():
            if f"{asked}, {title}" not in found.values:
                found.add(f"{asked}, {title}", plain, len(instances), available)

    def _beyond(self, row: Row, lists: np.ndarray) -> None:
        """Novelty and coverage of the lists, in place."""
        k = self._place.config.exp.evaluate.beyond_accuracy_k
        if not k:
            return
        short = lists[:, :k]
        there = short >= 0
        known = known_catalogue(self._place, None)
        users = np.nonzero(there)[0]
        row |= beyond_accuracy_of_lists(short[there], users, len(short), k=k, **known)

    def _frozen(self, split: SplitName) -> Candidates:
        """The tables' own candidates, so that other models rank the same; else those drawn."""
        tables, own = self._place.tables, self._world.settings.measure
        sequences = self._world.families.sequences
        name = split_of_candidates(tables, split, own.negatives)
        if name is not None:
            return table_candidates(tables, sequences, name, split=split)
        return frozen_candidates(
            candidate_folder(self._place, own, split),
            sequences,
            tables=tables.fingerprint,
            split=split,
            seed=own.seed,
            negatives=own.negatives,
        )


def row_name(families: TaskFamilies, template: Template) -> str:
    """What the row of a prompt is called: whose training, what is asked for, seen or not."""
    kind = "seen" if template.seen else "unseen"
    origin, family = families.origin, str(template.family)
    task = families.about_reviews.get("transfer")
    if template.family == "transfer":
        about = {"stars": "rating", "liking": "like or dislike"}
        known = task is not None and task.known is not None
        family = f"{about.get(template.answer, template.answer)} in another domain, "
        family += "users of both" if known else "new users"
    trained = "" if origin is None else f"trained on {origin.name}: "
    return f"{trained}{family}, {kind} prompt {template.name}"


def which_split(sequences: Sequences, interactions: Interactions) -> tuple[SplitName, Tensor]:
    """Which held-out split this is, and the row of the sequences of each impression ``(n,)``.

    Raises:
        ConfigError: it is neither valid nor test of the same leave-last-out table.
    """
    users = interactions.users.cpu()
    clicked = (interactions.labels == 1).cpu()
    owners = interactions.candidates.rows.cpu()[clicked]
    targets = interactions.candidates.values.cpu()[clicked]
    rows = torch.searchsorted(sequences.users, users).clamp(max=max(0, len(sequences) - 1))
    fits = len(users) > 0 and owners.tolist() == list(range(len(users)))
    if fits and torch.equal(sequences.users[rows], users):
        splits: tuple[SplitName, SplitName] = ("test", "valid")
        for split in splits:
            if torch.equal(sequences.targets(split)[rows], targets.long()):
                return split, rows
    raise ConfigError(
        "recsysllm measures splits valid and test of leave-last-out tables, one click a user; "
        "expected data.splits to name these"
    )


def candidate_folder(place: Workplace, own: MeasureSettings, split: SplitName) -> Path:
    """Where the frozen candidates of a split lie, a folder for everything that decides them."""
    name = f"{split}-{own.negatives}-seed{own.seed}-{place.tables.fingerprint[:12]}"
    return place.config.exp.cache.candidate_folder / place.config.data.name / name


class PlainRows:
    """Rows of baselines; rating models are trained when they are first needed.

    Args:
        world: tables.
        seed: of the rating models.
    """

    def __init__(self, world: World, *, seed: int) -> None:
        self._world, self._seed, self._own = world, seed, world.settings.measure
        self._models: dict[Kind, RatingModel] = {}
        catalogue = world.families.catalogue
        self._counts = {"num_users": len(catalogue.users), "num_items": len(catalogue.items)}

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
            train = Ratings.of(reviews, "train")
            if not train.stars.numel():
                return {}
            means = mean_ratings(
                train, (users, items), shrink=self._own.mean_shrink, **self._counts
            )
            found = {"user and item means (no model)": means}
            for kind, title in RATING_MODELS.items():
                model = self._model(kind, train, Ratings.of(reviews, "valid"))
                found[f"{title} (ids alone)"] = model.predict(users, items)
            return {name: self._errors(instances, stars) for name, stars in found.items()}
        if answer not in ("headline", "explanation"):
            return {}
        rows = reviews.of("train")
        said = [reviews.headlines[row] for row in rows.tolist()]
        if answer == "explanation":
            each = (reviews.explanations[row] for row in rows.tolist())
            said = ["" if one is None else one.sentence for one in each]
        texts = [text.strip() for text in said]
        if not any(texts):
            return {}
        phrases = frequent_phrases(reviews.items[rows], texts, items)
        return {f"most frequent {answer} (no model)": text_row(self._world, instances, phrases)}

    def _errors(self, instances: Sequence[Instance], stars: Tensor) -> dict[str, float]:
        texts = [f"{value:.4f}" for value in stars.tolist()]
        row = text_row(self._world, instances, texts)
        return {name: row[name] for name in ("RMSE", "MAE")}

    def _model(self, kind: Kind, train: Ratings, valid: Ratings) -> RatingModel:
        if kind not in self._models:
            self._models[kind] = train_rating_model(
                kind,
                train,
                valid,
                seed=self._seed,
                settings=self._own.rating_models,
                **self._counts,
            )
        return self._models[kind]
