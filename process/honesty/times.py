"""Times: how many are shared within a user, and how many cannot be true."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import numpy as np

from legos.data.honesty import TimeHonesty
from process.honesty.evidence import Evidence
from process.honesty.rules import percent
from process.moments import A_DAY, SHOPS_ON_THE_WEB, UNKNOWN_TIME
from process.ties import count_ties

_FIRST_YEAR = int(datetime(1, 1, 2, tzinfo=UTC).timestamp())  # what a date can be written for
_LAST_YEAR = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())


def measure_times(evidence: Evidence, *, now: float | None = None) -> TimeHonesty | None:
    """The times of interactions, or of impressions where the tables keep no interactions.

    Ties are the reader's own count where it ordered interactions by time.

    Args:
        evidence: the data set.
        now: Unix seconds; later times lie in the future. The clock's, when not given.

    Returns:
        None where nothing has a time.
    """
    has_reviews = "time" in evidence.tables.get("reviews", {})
    source = "interactions" if has_reviews else "impressions"
    user, when = _interactions(evidence) if has_reviews else _impressions(evidence)
    known = when != UNKNOWN_TIME
    unknown = int((~known).sum())
    user, when = user[known], when[known]
    if not len(when):
        return None
    ties = evidence.time_ties or count_ties(user, when)
    latest_possible = (time.time() if now is None else now) + A_DAY
    plausible = when[(when >= _FIRST_YEAR) & (when <= _LAST_YEAR)]
    return TimeHonesty(
        source=source,
        known=len(when),
        unknown=unknown,
        tied=round(100 * ties.share, 2),
        tied_of="interactions" if evidence.time_ties else source,
        dates=percent(when % A_DAY == 0),
        before_1995=int((when < SHOPS_ON_THE_WEB).sum()),
        in_future=int((when > latest_possible).sum()),
        earliest=_date(int(plausible.min())) if len(plausible) else None,
        latest=_date(int(plausible.max())) if len(plausible) else None,
    )


def _interactions(evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
    return evidence.scalar("reviews", "user_id"), evidence.scalar("reviews", "time")


def _impressions(evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """User and time of every impression; the same clicks shown with other negatives count once."""
    parts = []
    for name in evidence.splits:
        split = evidence.split(name)
        clicks = split.clicks
        first = np.full(len(split), -1, dtype=np.int64)
        filled = clicks.lengths > 0
        first[filled] = clicks.values[clicks.offsets[:-1][filled]]
        parts.append(np.stack([split.user, split.time, split.history.astype(np.int64), first], 1))
    rows = np.concatenate(parts)
    rows = rows[np.lexsort(rows.T)]
    again = np.zeros(len(rows), dtype=bool)
    again[1:] = (rows[1:] == rows[:-1]).all(1) & (rows[1:, 3] >= 0)
    rows = rows[~again]
    return rows[:, 0], rows[:, 1]


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).date().isoformat()
