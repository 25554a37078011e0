"""Review files of three releases and of the prepared sets, one JSON object a line.

They are read once. Texts go to disk until it is known which reviews pass the filters.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, compress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from legos.data.texts import one_lines
from process.bad_lines import BadLine, BadLines
from process.interactions.parts import Part, Parts
from process.interactions.rows import Interactions
from process.json_blocks import Lines, read_blocks
from process.json_columns import MISSING, LineColumns
from process.json_lines import Row
from process.moments import UNKNOWN_TIME, plain_moments, read_moment
from process.spilled_texts import SpilledTexts, TextBlock
from process.ties import line_hashes

MOST_STARS = 5
USER_NAME = "user_name"
"""What a review calls its writer; a field of users, not of reviews."""
TEXTS = ("review", "headline", USER_NAME)
NO_NAMES = frozenset({"amazon customer", "kindle customer", "a customer"})
"""What Amazon prints for a user without a name, in lower case."""
_TEXT, _WHOLE, _NUMBER = frozenset([str]), frozenset([int]), frozenset([int, float])


@dataclass(frozen=True)
class ReviewFormat:
    """What a release calls the parts of a review.

    Attributes:
        name: of the release.
        user, item, rating, time, review, headline, user_name: keys.
        milliseconds: ``time`` is in those.
    """

    name: str
    user: str
    item: str
    rating: str
    time: str
    review: str
    headline: str
    user_name: str
    milliseconds: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """All of them."""
        return self.user, self.item, self.rating, self.time, *self.texts

    @property
    def texts(self) -> tuple[str, str, str]:
        """Those of ``TEXTS``."""
        return self.review, self.headline, self.user_name


FORMATS = (
    ReviewFormat(
        "Amazon 2014 and 2018",
        "reviewerID", "asin", "overall", "unixReviewTime", "reviewText", "summary", "reviewerName",
    ),
    ReviewFormat(
        "Amazon 2023",
        "user_id", "parent_asin", "rating", "timestamp", "text", "title", "user_name",
        milliseconds=True,
    ),
    ReviewFormat(
        "prepared", "user_id", "item_id", "rating", "timestamp", "review", "summary", "user_name"
    ),
)  # fmt: skip


def detect_format(row: Row) -> ReviewFormat:
    """The release a line is from, told by its keys.

    Raises:
        BadLine: of none; names file, line and keys.
    """
    for known in FORMATS:
        if known.user in row.values and known.item in row.values:
            return known
    expected = "; ".join(f"{known.user}, {known.item} ({known.name})" for known in FORMATS)
    raise BadLine(
        row.at,
        "no review of a known release",
        f"not a review of a known release; expected the keys {expected}; found: {row.keys}",
    )


class Reviews(NamedTuple):
    """What review files hold.

    Attributes:
        interactions: users, items, ratings and times.
        texts: one row an interaction, without markup, each on one line; ``Interactions.place`` is
            its number. None where there are none.
        oddities: counts.
    """

    interactions: Interactions
    texts: SpilledTexts | None
    oddities: dict[str, int]


def read_reviews(paths: Sequence[Path], bad: BadLines) -> Reviews:
    """All reviews.

    A rating of 0, null or NaN, and a missing one, is unknown; so is a time that is null or missing.

    Args:
        paths: review files; the first lines of each tell its release.
        bad: counts the lines that cannot be read.

    Raises:
        DataError: a damaged file, or too many bad lines; names file and line.
    """
    parts, texts = Parts(), SpilledTexts(TEXTS)
    for part, written in read_blocks(paths, "reading reviews", parse_reviews, bad):
        parts.extend(part)
        texts.add(written)
    bad.check()
    found = parts.done()
    oddities = {
        "reviews without a rating": int(np.isnan(found.rating).sum()),
        "reviews without a time, put before all others of their user": int(
            (found.time == UNKNOWN_TIME).sum()
        ),
        **bad.oddities(),
    }
    return Reviews(found, texts, oddities)


def parse_reviews(
    lines: Lines, known: ReviewFormat | None
) -> tuple[tuple[Part, TextBlock], ReviewFormat | None]:
    """The reviews of a block; ``known``: the release of the file, told by its first lines."""
    if known is not None:
        return _by_columns(lines, known), known
    found = list[_Review]()
    for row in lines:
        try:
            known = known or detect_format(row)
            found.append(_review(row, known, lines.notes))
        except BadLine as error:
            lines.refuse(error)
    users, items, ratings, times, contents, texts = zip(*found, strict=True) if found else [()] * 6
    written = TextBlock([text.encode() for each in texts for text in each])
    return (Part.of(users, items, ratings, times, b"".join(contents)), written), known


def _by_columns(lines: Lines, known: ReviewFormat) -> tuple[Part, TextBlock]:
    """The reviews of a block, plain lines all at once."""
    rows = LineColumns(lines, known.keys)
    users, items = rows.ids(known.user), rows.ids(known.item)
    ratings, times = _ratings(rows, known), _times(rows, known)
    columns = [rows.values(key, _TEXT, "") for key in known.texts]
    texts = one_lines(list(chain.from_iterable(zip(*columns, strict=True))))
    raw, kept = rows.raw, ~rows.odd
    for at, row in rows.one_by_one():
        try:
            read = _review(row, known, lines.notes)
        except BadLine as error:
            lines.refuse(error)
            continue
        kept[at] = True
        users[at], items[at], ratings[at], times[at] = read[:4]
        texts[len(TEXTS) * at : len(TEXTS) * (at + 1)] = map(str.encode, read.texts)
    if not kept.all():
        users, items = list(compress(users, kept)), list(compress(items, kept))
        raw = list(compress(raw, kept))
        ratings, times = ratings[kept], times[kept]
        texts = list(compress(texts, np.repeat(kept, len(TEXTS))))
    found = Part.of(users, items, ratings, times, line_hashes(raw))
    return found, TextBlock(texts)


class _Review(NamedTuple):
    """What a line says; ``content`` is its hash."""

    user: str
    item: str
    rating: float
    time: int
    content: bytes
    texts: tuple[str, ...]


def _review(row: Row, known: ReviewFormat, notes: Counter[str]) -> _Review:
    user, item, rating = row.id(known.user), row.id(known.item), _rating(row, known)
    time = read_moment(row, known.time, notes, milliseconds=known.milliseconds)
    texts = tuple(map(row.text, known.texts))
    return _Review(user, item, rating, time, row.content, texts)


def _ratings(rows: LineColumns, known: ReviewFormat) -> np.ndarray:
    """``(n,)`` float64 stars, NaN = unknown."""
    found = np.array(rows.values(known.rating, _NUMBER, math.nan), dtype=np.float64)
    found[found == 0] = math.nan
    rows.odd |= ~(((found > 0) & (found <= MOST_STARS)) | np.isnan(found))
    return found


def _times(rows: LineColumns, known: ReviewFormat) -> np.ndarray:
    """``(n,)`` int64 Unix seconds, -1 = unknown."""
    found = np.array(rows.values(known.time, _WHOLE, MISSING), dtype=np.int64)
    seconds, plain = plain_moments(found, milliseconds=known.milliseconds)
    rows.odd |= ~(plain | (found == MISSING))
    return np.where(found == MISSING, UNKNOWN_TIME, seconds)


def _rating(row: Row, known: ReviewFormat) -> float:
    value = row.values.get(known.rating)
    if type(value) is float and 0 < value <= MOST_STARS:
        return value
    value = row.number(known.rating)
    if value is None or math.isnan(value) or value == 0:
        return math.nan
    if not 0 < value <= MOST_STARS:
        raise row.bad(known.rating, f"a rating from 0 (unknown) to {MOST_STARS}")
    return float(value)
