"""A check that tells impossible rows of ranking metrics.

With one positive a user, HR and nDCG at several cut-offs bound each other: a hit between the ranks
a + 1 and b adds between 1 / log2(b + 1) and 1 / log2(a + 2). Several published rows of RecSysLLM
break these bounds; none of ours may.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from legos.errors import DataError
from legos.metrics.names import parse_metric

PRINTED = 1.5e-4  # tolerance for numbers rounded to four digits


def bound_violations(row: Mapping[str, float], *, tolerance: float = 1e-9) -> list[str]:
    """What is impossible in a row of metrics with one positive a user; nothing if it is sound.

    Args:
        row: by name; ``HR@k`` and ``nDCG@k`` count, others are ignored.
        tolerance: for rounding; ``PRINTED`` for published numbers.

    Returns:
        One line a violation, for example ``nDCG@10 0.0446 is not in [0.0427, 0.0438]``.
    """
    hits, gains = _at_cutoffs(row, "HR"), _at_cutoffs(row, "nDCG")
    found = []
    for name, value in row.items():
        is_nan = math.isnan(value)
        if parse_or_none(name) in ("HR", "nDCG") and (is_nan or not 0 <= value <= 1 + tolerance):
            found.append(f"{name} {value:.4f} is not in [0, 1]")
    lower = {0: (0.0, 0.0)}  # cut-off -> HR, nDCG; at 0 both are 0
    cutoffs = sorted(hits)
    for before, k in pairwise(cutoffs):
        if hits[k] < hits[before] - tolerance:
            found.append(f"HR@{k} {hits[k]:.4f} is below HR@{before} {hits[before]:.4f}")
    if 1 in hits:
        gains.setdefault(1, hits[1])  # the same thing
        if abs(gains[1] - hits[1]) > tolerance:
            found.append(f"nDCG@1 {gains[1]:.4f} is not HR@1 {hits[1]:.4f}")
    both = sorted(hits.keys() & gains.keys())
    lower |= {k: (hits[k], gains[k]) for k in both}
    for before, k in pairwise([0, *both]):
        more = hits[k] - lower[before][0]
        if more < -tolerance:
            continue  # said above
        least = lower[before][1] + more / math.log2(k + 1)
        most = lower[before][1] + more / math.log2(before + 2)
        if not least - tolerance <= gains[k] <= most + tolerance:
            found.append(f"nDCG@{k} {gains[k]:.4f} is not in [{least:.4f}, {most:.4f}]")
    return found


def require_possible(row: Mapping[str, float], *, source: str, tolerance: float = 1e-9) -> None:
    """Refuse a row of metrics that cannot be.

    Raises:
        DataError: with one positive a user no ranking has these numbers.
    """
    found = bound_violations(row, tolerance=tolerance)
    if found:
        raise DataError(
            f"{source}: impossible with one positive a user: {'; '.join(found)}; expected numbers "
            "of one ranking"
        )


def parse_or_none(name: str) -> str | None:
    """The kind of a metric, None for other columns."""
    try:
        return parse_metric(name).kind
    except ValueError:
        return None


def _at_cutoffs(row: Mapping[str, float], kind: str) -> dict[int, float]:
    found: dict[int, float] = {}
    names: Sequence[str] = [name for name in row if parse_or_none(name) == kind]
    for name in names:
        k = parse_metric(name).k
        if k is not None and not math.isnan(row[name]):
            found[k] = row[name]
    return found
