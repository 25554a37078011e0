"""Names of metrics, their meanings, and whether larger is better."""

from __future__ import annotations

import re
from dataclasses import dataclass

from legos.errors import ConfigError, nearest

GLOBAL = ("AUC", "LogLoss")
PLAIN = (*GLOBAL, "GAUC", "MRR", "MRR-all", "LRAP")
AT_K = ("nDCG", "HR", "Recall")
BEYOND_ACCURACY = ("novelty", "coverage", "diversity")  # more of them is not simply better


@dataclass(frozen=True)
class Metric:
    """A metric and its cut-off.

    Attributes:
        name: in its canonical spelling, for example ``nDCG@10``.
        kind: the name without the cut-off.
        k: the cut-off, or None.
        maximize: whether larger is better.
        parts: of a sum of metrics, its terms; ``k`` is the largest of theirs.
    """

    name: str
    kind: str
    k: int | None
    maximize: bool
    parts: tuple[Metric, ...] = ()


def parse_metric(name: str) -> Metric:
    """Read a metric's name in any case, or the sum of several: ``Recall@20+Recall@40+nDCG@100``.

    Raises:
        ConfigError: unknown, or a cut-off is missing, superfluous or not a positive whole number;
            or a sum has a term that is no mean over groups.
    """
    if "+" in name:
        return _sum_of(name)
    found = re.fullmatch(r"([A-Za-z-]+)(?:@(\d+))?", name)
    kinds = {kind.lower(): kind for kind in (*PLAIN, *AT_K)}
    if found is None or found[1].lower() not in kinds:
        raise ConfigError(f"unknown metric {name!r}; {nearest(name, _examples())}")
    kind, k = kinds[found[1].lower()], int(found[2]) if found[2] else None
    if (kind in AT_K) != (k is not None) or k == 0:
        expected = f"{kind}@k with k of 1 or more" if kind in AT_K else f"{kind} without a cut-off"
        raise ConfigError(f"metric {name!r}: expected {expected}")
    canonical = kind if k is None else f"{kind}@{k}"
    return Metric(canonical, kind, k, maximize=kind != "LogLoss")


def _sum_of(name: str) -> Metric:
    parts = tuple(parse_metric(part.strip()) for part in name.split("+"))
    wrong = [part.name for part in parts if part.kind in GLOBAL]
    if wrong:
        raise ConfigError(
            f"metric {name!r}: {wrong[0]} is no mean over groups; expected a sum of "
            f"{', '.join((*PLAIN[len(GLOBAL) :], *(f'{kind}@k' for kind in AT_K)))}"
        )
    longest = max((part.k for part in parts if part.k), default=None)
    return Metric("+".join(part.name for part in parts), "sum", longest, True, parts)


def is_beyond_accuracy(name: str) -> bool:
    """Whether a column of results is novelty, coverage or diversity, which are no goals."""
    return name.split("@")[0] in BEYOND_ACCURACY


WRITTEN = ("BLEU", "ROUGE", "accuracy", "parse rate", "complete rate")  # of texts: more is better
ERRORS = ("RMSE", "MAE")


def larger_is_better(name: str) -> bool | None:
    """Whether larger values of a column are better; None: neither direction is better.

    Raises:
        ConfigError: it is no column of results.
    """
    bare = name.removeprefix("standard ")
    if is_beyond_accuracy(name):
        return None
    if bare in ERRORS:
        return False
    if bare in WRITTEN or bare.rpartition("-")[0] in WRITTEN:
        return True
    return parse_metric(name).maximize


def _examples() -> list[str]:
    return [*PLAIN, *(f"{kind}@{k}" for kind in AT_K for k in (5, 10))]
