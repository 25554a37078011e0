"""The whole report of a data set: rules, equal times, dates, repeated texts."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from html.entities import html5

import numpy as np
import pandas as pd

from legos.data.honesty import Honesty, TextHonesty, TimeHonesty
from legos.data.ragged import Ragged
from legos.scratch import PAGE, windows
from process.honesty.bounds import FEWEST_IMPRESSIONS, warnings_of
from process.honesty.evidence import Evidence
from process.honesty.rules import measure_splits, percent
from process.moments import A_DAY, SHOPS_ON_THE_WEB, UNKNOWN_TIME
from process.ties import count_ties

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
        tied_by_hash=evidence.time_ties is not None,
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


MOST_READ = 200_000  # texts of a field searched for markup: a share is then known to .2 % or better
UNKNOWN_TOKENS = ("[UNK]", "<unk>", "<unknown>", "<|unk|>", "<UNK>", "[unk]")
_TAGS = (
    "a|abbr|b|big|blockquote|body|br|center|code|dd|div|dl|dt|em|font|form|h[1-6]|head|hr|html|i|"
    "iframe|img|input|li|link|meta|ol|p|pre|s|script|small|span|strong|style|sub|sup|table|tbody|"
    "td|th|thead|title|tr|u|ul"
)
_MARKUP = re.compile(
    rf"</?(?:{_TAGS})(?:\s+[A-Za-z-]+\s*=[^<>]*)?\s*/?>|&(?:#\d{{1,7}}|#[xX][0-9a-fA-F]{{1,6}});"
)
_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]{1,31});")
_NAMES = frozenset(name[:-1] for name in html5 if name.endswith(";"))


def measure_texts(evidence: Evidence, seed: int) -> dict[str, TextHonesty]:
    """By field of the items, then of other tables."""
    found = {}
    for field, texts in evidence.texts.items():
        table, dot, name = field.rpartition(".")
        empty = np.fromiter((not text.strip() for text in iter(texts)), bool, count=len(texts))
        found[field] = TextHonesty(
            texts=len(texts),
            empty=percent(empty),
            markup=percent(np.array([has_markup(text) for text in _sample(texts, seed)], bool)),
            unknown=_unknown(evidence, table if dot else "items", name),
        )
    return found


def has_markup(text: str) -> bool:
    """Whether an HTML tag or a known entity is left in a text."""
    if "<" not in text and "&" not in text:
        return False
    if _MARKUP.search(text):
        return True
    return any(found[1] in _NAMES for found in _ENTITY.finditer(text))


def repeated_items(evidence: Evidence) -> tuple[int, int]:
    """How many items have no text at all, and how many only texts of an earlier item."""
    columns = [texts for field, texts in evidence.texts.items() if "." not in field]
    if not columns:
        return evidence.num_items, 0
    hashes = np.zeros(evidence.num_items, dtype=np.uint64)
    empty = np.ones(evidence.num_items, dtype=bool)
    for number, texts in enumerate(columns):
        for first in range(0, len(texts), PAGE):
            part = slice(first, first + PAGE)
            values = np.array(
                [" ".join(text.lower().split()) for text in texts[part]], dtype=object
            )
            empty[part] &= values == ""
            own = pd.util.hash_array(values, categorize=False)
            hashes[part] = hashes[part] * np.uint64(1_000_003) + own + np.uint64(number)
    repeated = pd.Series(hashes[~empty]).duplicated()
    return int(empty.sum()), int(repeated.sum())


def _sample(texts: Sequence[str], seed: int) -> Sequence[str]:
    if len(texts) <= MOST_READ:
        return texts
    rows = np.random.default_rng(seed).permutation(len(texts))[:MOST_READ]
    return [texts[row] for row in rows.tolist()]


def _unknown(evidence: Evidence, table: str, field: str) -> dict[str, float]:
    shares = {}
    for column, values in evidence.tables.get(table, {}).items():
        name, at, tokenizer = column.partition("@")
        if name != field or not at or not isinstance(values.values, Ragged):
            continue
        vocabulary = evidence.vocabularies.get(tokenizer, ())
        ids = [vocabulary.index(token) for token in UNKNOWN_TOKENS if token in vocabulary]
        if ids:
            tokens = values.values.values
            found = sum(int(np.isin(part, ids).sum()) for part in windows(tokens))
            shares[tokenizer] = round(100 * found / len(tokens), 2) if len(tokens) else 0.0
    return shares
