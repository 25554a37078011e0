"""What the baselines reach on a split, measured like a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from legos.config.checks import OF_TEXTS
from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.evaluation.baselines.catalogue import rank_by_baseline
from legos.evaluation.baselines.methods import BASELINES, ORACLE, Reading, baseline_scores
from legos.evaluation.measure import Scored, SplitResult, measure, measure_ranked
from legos.evaluation.rank import ranking_of
from legos.runs.tracking import Tracker
from legos.workplace.workplace import Workplace


def measure_baselines(place: Workplace, tracker: Tracker, known: dict[str, dict[str, Any]]) -> None:
    """Score and measure the baselines of ``exp.baselines`` on every test split.

    Args:
        place: configuration and data.
        tracker: told what is skipped.
        known: by split and baseline what ``SplitResult.summary()`` gave; filled here, nothing is
            computed twice.
    """
    for split in place.config.data.splits.test:
        names = possible_baselines(place.config, place.tables, split)
        for name in place.config.exp.baselines:
            if name not in names:
                tracker.say(f"{split}: no {BASELINES[name][0]}, the data do not know it")
        found = dict(known.get(split, {}))
        if set(names) - set(found):
            measured = _measured(place, split)
            for name in names:
                if name not in found:
                    found[name] = measured(name).summary()
        known[split] = found


def _measured(place: Workplace, split: str) -> Callable[[str], SplitResult]:
    """What measures a baseline by its name on a split."""
    data, interactions = place.config.data, place.split(split)
    ranks_all = place.config.exp.evaluate.ranking == "all"
    reading = Reading(
        place.tables,
        split,
        train=data.splits.train,
        history_length=data.history_length,
        text_model=place.config.exp.evaluate.text_model,
        catalogue=place.tables.offered.numpy() if ranks_all else None,
    )
    if ranks_all:
        ranking = ranking_of(place, interactions)

        def ranked(name: str) -> SplitResult:
            config = place.config.exp.evaluate
            found = rank_by_baseline(
                name,
                reading,
                ranking,
                page_size=config.page_size,
                k=config.beyond_accuracy_k,
            )
            return measure_ranked(place, found, interactions, thorough=True)

        return ranked

    def scored(name: str) -> SplitResult:
        begin = time.perf_counter()
        scores = baseline_scores(name, reading)
        found = Scored(scores, None, time.perf_counter() - begin)
        return measure(place, found, interactions, thorough=True)

    return scored


def possible_baselines(config: RunConfig, tables: Tables, split: str) -> list[str]:
    """Those of ``exp.baselines`` that a split has the columns for.

    The oracle knows the candidates that were shown, and nothing of other items; a text baseline
    needs items with texts.
    """
    unknown = set() if tables.text_fields else set(OF_TEXTS)
    if config.exp.evaluate.ranking == "all" or not tables.has(split, ORACLE):
        unknown.add(ORACLE)
    return [name for name in config.exp.baselines if name not in unknown]


def missing_baselines(
    config: RunConfig, tables: Tables, known: Mapping[str, Mapping[str, Any]]
) -> bool:
    """Whether ``measure_baselines`` has anything to compute."""
    return any(
        name not in known.get(split, {})
        for split in config.data.splits.test
        for name in possible_baselines(config, tables, split)
    )
