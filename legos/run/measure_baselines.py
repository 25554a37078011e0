"""What the baselines reach on a split, measured like a model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from legos.run.assemble import Workplace
from legos.run.baselines import BASELINES, ORACLE, Reading, baseline_scores
from legos.run.measure import Scored, measure
from legos.run.tracking import Tracker


def measure_baselines(
    place: Workplace, tracker: Tracker, known: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Score and measure the baselines of ``exp.baselines`` on every test split.

    Args:
        place: configuration and data.
        tracker: told what is skipped.
        known: what an earlier call returned; it is not computed again.

    Returns:
        Per split and baseline what ``SplitResult.summary()`` gives.
    """
    data, names = place.config.data, place.config.exp.baselines
    results: dict[str, dict[str, Any]] = {}
    for split in data.splits.test:
        found = dict(known.get(split, {}))
        missing = [name for name in names if name not in found]
        if missing:
            reading = Reading(
                place.tables, split, train=data.splits.train, history_length=data.history_length
            )
            interactions = place.split(split)
        for name in missing:
            begin = time.perf_counter()
            if name == ORACLE and not place.tables.has(split, ORACLE):
                tracker.say(f"{split}: {BASELINES[name][0]} is skipped, the data do not know it")
                continue
            scores = baseline_scores(name, reading)
            scored = Scored(scores, None, time.perf_counter() - begin)
            found[name] = measure(place, scored, interactions, thorough=True).summary()
        results[split] = {name: found[name] for name in names if name in found}
    return results
