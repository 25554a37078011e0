"""The whole report of a data set."""

from __future__ import annotations

from legos.data.honesty import Honesty
from process.honesty.bounds import FEWEST_IMPRESSIONS, warnings_of
from process.honesty.evidence import Evidence
from process.honesty.rules import measure_splits
from process.honesty.times import measure_texts, measure_times, repeated_items

SEED = 1


def measure_honesty(evidence: Evidence, *, seed: int = SEED, now: float | None = None) -> Honesty:
    """Measure a data set.

    Args:
        evidence: its tables.
        seed: of samples and halves.
        now: Unix seconds, see ``measure_times``.
    """
    without_text, same_text = repeated_items(evidence)
    report = Honesty(
        seed=seed,
        items=evidence.num_items,
        items_without_text=without_text,
        items_of_same_text=same_text,
        small_splits={
            name: count
            for name in evidence.splits
            if (count := len(evidence.scalar(name, "user_id"))) < FEWEST_IMPRESSIONS
        },
        times=measure_times(evidence, now=now),
        texts=measure_texts(evidence, seed),
        splits=measure_splits(evidence, seed),
    )
    return report.model_copy(update={"warnings": warnings_of(report)})
