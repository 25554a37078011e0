"""Scoring a split with a model, by one process or many."""

from __future__ import annotations

import time

from legos.data.interactions import Interactions
from legos.evaluation.measure import Scored, SplitResult, measure, measure_ranked
from legos.evaluation.rank import ranking_of
from legos.evaluation.sharing import Sharing
from legos.recommender import Recommender
from legos.systems.bricks.rank import rank_by_model
from legos.systems.bricks.score import score_split, score_split_directly
from legos.workplace.workplace import Workplace


def score(place: Workplace, model: Recommender, interactions: Interactions) -> Scored:
    """Score every candidate of a split; every process takes part and gets all scores."""
    begin = time.perf_counter()
    config = place.config.exp.evaluate
    if not config.fast_eval:
        direct = score_split_directly(
            model, place.store, interactions, profiles=place.profiles
        ).numpy()
        return Scored(direct, None, time.perf_counter() - begin)
    cached = score_split(
        model,
        place.store,
        interactions,
        profiles=place.profiles,
        page_size=config.page_size,
        sharing=Sharing.between(place.accelerator),
    )
    scores = cached.scores.numpy()
    return Scored(scores, cached.item_vectors, time.perf_counter() - begin)


def evaluate(
    place: Workplace, model: Recommender, interactions: Interactions, *, thorough: bool
) -> SplitResult | None:
    """Score and measure a labelled split; the result in the main process, None in the others.

    Args:
        place: configuration, processes, items.
        model: to score with.
        interactions: the split, on the model's device.
        thorough: rows of kinds of items and users and the metrics beyond accuracy, too.
    """
    config = place.config.exp.evaluate
    if config.ranking == "all":
        ranked = rank_by_model(
            model,
            place.store,
            interactions,
            ranking_of(place, interactions),
            profiles=place.profiles,
            page_size=config.page_size,
            k=config.beyond_accuracy_k if thorough else None,
            sharing=Sharing.between(place.accelerator),
        )
        if not place.accelerator.is_main_process:
            return None
        return measure_ranked(place, ranked, interactions, thorough=thorough)
    scored = score(place, model, interactions)
    if not place.accelerator.is_main_process:
        return None
    return measure(place, scored, interactions, thorough=thorough)
