"""Number fields: by which statistics of the training split a price or an age becomes a vector.

Torch is not imported here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Treatment = Literal["standardised", "bucketed", "projected"]
BUCKETS = 10


@dataclass(frozen=True)
class NumberScale:
    """What becomes of a number field.

    Attributes:
        treatment: ``standardised``, ``bucketed`` or ``projected``.
        mean: of the known values that training sees; 0 of buckets.
        deviation: their standard deviation (1 where all are equal or of buckets).
        edges: ascending; a bucket ends with its edge, the last one has none.
    """

    treatment: Treatment
    mean: float = 0.0
    deviation: float = 1.0
    edges: tuple[float, ...] = ()

    @property
    def buckets(self) -> int:
        """Number of buckets, that of unknown values among them."""
        return len(self.edges) + 2


def written(numbers: np.ndarray) -> list[str]:
    """Numbers as a language model reads them, ``19.99``; "" where unknown."""
    return ["" if np.isnan(number) else f"{number:g}" for number in numbers]


def scale_of(seen: np.ndarray, treatment: Treatment, buckets: int = BUCKETS) -> NumberScale | None:
    """The scale of a number field; a linear change of units changes nothing that follows from it.

    Args:
        seen: ``(n,)`` float32 values of what the training split shows; NaN = unknown.
        treatment: what the data YAML says.
        buckets: quantile buckets; fewer where many values are equal.

    Returns:
        None where no value is known.
    """
    known = np.sort(seen[~np.isnan(seen)].astype(np.float64))
    if not len(known):
        return None
    if treatment != "bucketed":
        return NumberScale(treatment, float(known.mean()), float(known.std()) or 1.0)
    places = [math.ceil(part * len(known) / buckets) - 1 for part in range(1, buckets)]
    edges = np.unique(known[places])  # values that occur, so that no rounding moves one across
    return NumberScale(treatment, edges=tuple(edges[edges < known[-1]].tolist()))
